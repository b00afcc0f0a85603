"""The students' page, the teacher's page and the kit hold true: tables, minutes, names, commands, code."""

import base64
import html
import re
import subprocess
import sys

import pytest

import cards
import tables
from behaviours import BEHAVIOURS
from support.browser import Browser
from support.parts import ROOT
from support.peers import free_ports
from support.shell import renumber, run

STUDENTS_PAGE = cards.HERE / "README.md"
KIT = cards.HERE / "teacher"
MINUTES = {each.name: each.minutes for each in map(cards.Exercise, cards.names())}
LESSON = 90  # minutes
WEEKS = 7
SLIDES = 10
WIDTH, WORDS = 100, 80  # of a line and of a paragraph, at most
FENCE = re.compile(r"^```.*?^```\n", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.skipif(cards.BUNDLE_MARK.exists(), reason="this copy for a class has no pages for teachers")
ALL_PAGES = [STUDENTS_PAGE, *sorted(KIT.glob("*.md"))]


def short(path):
    """Return a path as a reader of the repository would write it."""
    return str(path.relative_to(ROOT))


def plans(text):
    """Return the plans of lessons in a page: lists of (first minute, last minute, exercises of that time)."""
    found = []
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = re.findall(r"^\| (\d+)–(\d+) \|.*\|(.*)\|$", table, re.MULTILINE)
        if rows:
            found.append([(int(first), int(last), re.findall(r"`(\w+)`", names)) for first, last, names in rows])
    return found


# --- tables and minutes ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", tables.TABLES)
def test_a_table_made_from_the_exercises_is_up_to_date(name):
    """The map on the students' page, the tables on the teacher's, and the one on the last slide."""
    page, made = tables.TABLES[name]
    text = page.read_text()
    assert text == tables.with_table(text, name, made()), (
        f"{short(page)}: the table {name} is not up to date. Hint: python tests/exercises/exercise.py tables"
    )


def test_the_students_map_has_every_exercise():
    """Each once, under the time that it takes."""
    rows = re.findall(r"^\| (\d+) \| \[(\w+)\]", tables.exercise_map(), re.MULTILINE)
    assert {name: int(minutes) for minutes, name in rows} == MINUTES and len(rows) == len(MINUTES)


def test_there_is_a_plan_for_each_week_and_it_fills_the_lesson():
    """The single lesson, and weeks 2 to 7: each from minute 0 to 90, with nothing left out or done twice."""
    text = (KIT / "README.md").read_text()
    found = plans(text)
    assert len(found) == WEEKS and len(re.findall(r"^### Week \d", text, re.MULTILINE)) == WEEKS
    for plan in found:
        firsts, lasts = [first for first, _, _ in plan], [last for _, last, _ in plan]
        assert [0, *lasts[:-1]] == firsts and lasts[-1] == LESSON, f"this plan has a gap or an overlap: {plan}"


def test_the_plans_minutes_are_the_cards_minutes():
    """A lesson gives an exercise the time that its card asks for, and no exercise comes twice."""
    planned = [row for plan in plans((KIT / "README.md").read_text()) for row in plan if row[2]]
    assert len(planned) > WEEKS
    for first, last, names in planned:
        needed = sum(MINUTES[name] for name in names)
        assert last - first == needed, f"the plan gives {names} {last - first} minutes, the cards {needed}"
    names = [name for *_, names in planned for name in names]
    assert len(names) == len(set(names)), f"twice in the plans: {names}"


@pytest.mark.parametrize("page", [*ALL_PAGES, KIT / "handout.html"], ids=short)
def test_minutes_beside_an_exercises_name_are_its_cards(page):
    """`part1_threads` (25), or (25 minutes), or in the table of where to begin, says what the card says."""
    text = page.read_text().replace("<code>", "`").replace("</code>", "`")
    said = re.findall(r"`(part[1-9]_\w+)`\s+\((\d+)(?:\s+minutes)?\)", text)
    for names, minutes in re.findall(
        r"^\|[^|]*\|((?:[^|`]*`part[1-9]_\w+`)+)[^|]* \| ([\d +]+) \|$", text, re.MULTILINE
    ):
        said += zip(re.findall(r"`(\w+)`", names), minutes.split(" + "), strict=True)
    assert said or page.name == "mistakes.md", f"{short(page)} names no minutes. Hint: is the pattern still right?"
    wrong = {name: minutes for name, minutes in said if MINUTES.get(name) != int(minutes)}
    assert not wrong, f"{short(page)}: {wrong}, but the cards say { ({name: MINUTES.get(name) for name in wrong}) }"


@pytest.mark.parametrize("page", [*ALL_PAGES, KIT / "slides.html", KIT / "handout.html"], ids=short)
def test_no_page_names_an_exercise_that_is_gone(page):
    """Neither a plan nor a slide sends a class to a card that doesn't exist."""
    directories = {path.name for path in ROOT.glob("part[1-9]_*")}
    unknown = set(re.findall(r"\bpart[1-9]_[a-z_]+\b", page.read_text())) - set(MINUTES) - directories
    assert not unknown, f"{short(page)} names {sorted(unknown)}. Hint: was an exercise renamed?"


def test_the_students_transcript_is_a_cards():
    """What the students' page shows of a check is what the card shows."""
    shown = re.search(r"^```text\n(\(b\) not yet.*?)^```$", STUDENTS_PAGE.read_text(), re.MULTILINE | re.DOTALL)[1]
    assert shown in cards.Exercise("part1_threads").card, "Hint: copy it again from the card of part1_threads"


# --- how the pages read ------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ALL_PAGES, ids=short)
def test_a_page_is_easy_to_read(page):
    """Lines of at most 100 columns, paragraphs of at most 80 words; tables and fenced blocks aside."""
    text = re.sub(r"^\|.*\n", "", FENCE.sub("", page.read_text()), flags=re.MULTILINE)
    wide = [line for line in text.splitlines() if len(line) > WIDTH]
    assert not wide, f"{short(page)} has lines of more than {WIDTH} columns: {wide}"
    for paragraph in re.split(r"\n\s*\n|\n(?=- |\d+\. )", text):
        words = len(paragraph.split())
        assert words <= WORDS, f"{short(page)} has a paragraph of {words} words. Hint: two thoughts? {paragraph[:60]}…"


@pytest.mark.parametrize("page", ALL_PAGES, ids=short)
def test_a_link_leads_somewhere(page):
    """Every relative link is a file that exists."""
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        if not target.startswith("http"):
            there = (page.parent / target.split("#")[0]).exists()
            assert there, f"{short(page)} links to {target}, which doesn't exist. Hint: correct the path"


# --- slides and handout ------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [KIT / "slides.html", KIT / "handout.html"], ids=short)
def test_slides_and_handout_need_no_network(page):
    """Nothing is loaded from elsewhere, and each picture has a text for people who can't see it."""
    text = page.read_text()
    assert not re.search(r"(?:src|href)=\"(?!data:)|url\((?!#)|@import|https?://", text), f"{short(page)} loads a file"
    pictures = re.findall(r"<svg\b[^>]*>", text)
    assert pictures
    for picture in pictures:
        assert 'aria-hidden="true"' in picture or re.search(r'role="img" aria-label="[^"]{20,}"', picture), picture


def test_there_are_ten_slides_and_each_is_numbered():
    """A number at the foot of each, and one heading."""
    slides = re.findall(r"<section>(.*?)</section>", (KIT / "slides.html").read_text(), re.DOTALL)
    numbers = [re.findall(r'class="number">(\d+) / (\d+)<', slide) for slide in slides]
    assert numbers == [[(str(number), str(SLIDES))] for number in range(1, SLIDES + 1)]
    assert all(len(re.findall(r"<h[12]>", slide)) == 1 for slide in slides)


def test_code_on_the_slides_is_the_parts_own():
    """Each <pre data-file="…"> is a run of lines of that file, give or take its indentation."""
    blocks = re.findall(r'<pre data-file="([^"]+)">\n(.*?)</pre>', (KIT / "slides.html").read_text(), re.DOTALL)
    assert blocks
    for file, block in blocks:
        source = "\n" + re.sub(r"^ +", "", (ROOT / file).read_text(), flags=re.MULTILINE)
        code = "\n" + re.sub(r"^ +", "", html.unescape(block), flags=re.MULTILINE)
        assert code in source, f"slides.html shows code that isn't in {file}. Hint: copy it again:\n{block}"


@pytest.mark.needs("chromium", "chromedriver")
def test_slides_fit_the_screen_and_the_handout_one_sheet(tmp_path_factory):
    """On a screen of 4:3 nothing is cut off, and printing gives ten pages; the handout is one sheet of A4."""
    with Browser(tmp_path_factory.mktemp("chromium")) as browser:  # a short path: there is a socket in it
        browser.get((KIT / "slides.html").as_uri())
        sizes = "return [...document.querySelectorAll('section, pre')].map(e => [e.scrollHeight - e.clientHeight, "
        sizes += "e.scrollWidth - e.clientWidth, e.textContent.trim().slice(0, 40)])"
        cut = [words for down, right, words in browser.execute_script(sizes) if down > 1 or right > 1]
        assert not cut, f"too long for a slide: {cut}. Hint: fewer words"
        assert pages_printed(browser) == SLIDES
        browser.get((KIT / "handout.html").as_uri())
        assert pages_printed(browser) == 1


def pages_printed(browser):
    """Return how many pages a browser would print of what it shows, at the size that the page asks for."""
    document = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"])
    return len(re.findall(rb"/Type\s*/Page\b", document))


# --- the script --------------------------------------------------------------------------------------


def blocks(page):
    """Return the commands of a page's ```sh blocks, a string each."""
    return re.findall(r"^```sh\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def test_the_script_keeps_to_the_plan():
    """Its headings have the minutes of the plan, one after another."""
    heads = re.findall(r"^## (\d+)–(\d+): ", (KIT / "lesson.md").read_text(), re.MULTILINE)
    plan = plans((KIT / "README.md").read_text())[0]
    assert [tuple(map(int, head)) for head in heads] == [(first, last) for first, last, _ in plan]


@pytest.mark.parametrize("page", ALL_PAGES, ids=short)
def test_a_scene_that_a_page_names_is_there(page):
    """`make live SCENE=…` names one of the scenes of tests/live, each of which has its recording."""
    scenes = {path.stem for path in (ROOT / "tests" / "live" / "recordings").glob("*.html")}
    unknown = set(re.findall(r"SCENE=(\w+)", page.read_text())) - scenes
    assert scenes and not unknown, f"{short(page)} names {unknown}, not one of {sorted(scenes)}"


@pytest.mark.needs("bash", "curl")
def test_the_scripts_four_clients_take_the_time_that_it_says(tmp_path):
    """One after another through part 1, four seconds; at once through part 2, not much more than one."""
    one, two = [block for block in blocks(KIT / "lesson.md") if "curl" in block]
    proxy, backend = map(str, free_ports(2))
    for commands, least, most in ((one, 4, 60), (two, 1, 3.9)):
        commands = commands.replace("backend.py http", f"backend.py http {backend}")
        directory = tmp_path / str(least)
        directory.mkdir()
        output = "\n".join(run(renumber(commands, {"8000": proxy, "8001": backend}), directory))
        minutes, seconds = map(float, re.search(r"real\s+(\d+)m([\d.]+)s", output).groups())
        assert least <= 60 * minutes + seconds < most, output


# --- mistakes ----------------------------------------------------------------------------------------


def test_the_tests_that_name_a_mistake_exist():
    """Each test in the table of mistakes is in the suite, and each row of the behaviour table is one."""
    text = (KIT / "mistakes.md").read_text()
    named = set(re.findall(r"\btest_\w+", text))
    suite = "\n".join(path.read_text() for path in (ROOT / "tests" / "suite").glob("test_*.py"))
    assert len(named) > 10
    unknown = named - set(re.findall(r"^def (test_\w+)", suite, re.MULTILINE))
    assert not unknown, f"mistakes.md names {sorted(unknown)}. Hint: was a test renamed?"
    milestones = set(map(int, re.findall(r"\b[Mm]ilestone\s+(\d+)", text)))
    assert milestones <= set(range(1, len(BEHAVIOURS) + 1))


def test_the_hints_that_the_page_quotes_are_the_suites():
    """What a message is said to say is in the suite, word for word, give or take line ends and values."""
    quoted = re.findall(r"^> (.*)$", (KIT / "mistakes.md").read_text(), re.MULTILINE)
    assert quoted
    paths = [*(ROOT / "tests" / "suite").glob("*.py"), *(ROOT / "tests" / "support").rglob("*.py")]
    suite = " ".join(re.sub(r'"\s*\n\s*f?"|\s+', " ", path.read_text()) for path in paths)
    plain = re.sub(r"\s+", " ", suite)
    for line in quoted:
        for words in line.strip().split(" … "):
            assert words in plain, f"mistakes.md quotes {words!r}. Hint: copy it again from a failing run"


def test_a_page_of_commands_can_be_pasted():
    """Every command of exercise.py in the kit is one that it has."""
    usage = subprocess.run(
        [sys.executable, "tests/exercises/exercise.py"], cwd=ROOT, capture_output=True, text=True, timeout=60
    ).stderr
    for page in [*ALL_PAGES, KIT / "slides.html", KIT / "handout.html"]:
        for command in re.findall(r"exercise\.py ([a-z-]+)", page.read_text()):
            assert f"exercise.py {command}" in usage, f"{short(page)}: exercise.py has no {command}"
