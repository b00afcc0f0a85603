"""A Chromium without a window, for tests that look at pages."""

import contextlib
import os
import pathlib
import shutil

import psutil

from support.programs import find

AXE_PATIENCE = 120  # seconds that axe may take for a page on a busy machine
RUN_AXE = """
const done = arguments[0];
const fail = (error) => done([{id: String(error), nodes: []}]);
axe.run(document, {iframes: false}).then((result) => done(result.violations), fail);
"""


class Browser:
    """Starts a Chromium with its own profile; in the end it, and whatever it has started, is ended."""

    def __init__(self, home):
        """Keep everything in a directory, which goes with it."""
        self.home = home
        self.driver = self.service = None

    def __enter__(self):
        """Start it; return selenium's driver."""
        from selenium import webdriver  # here, since most tests can do without

        options = webdriver.ChromeOptions()
        options.binary_location = find("chromium")
        options.accept_insecure_certs = True  # nobody vouches for the tests' TLS sites
        # Root, as in a container, gets no sandbox; the pages are our own.
        for word in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "no-first-run"):
            options.add_argument(f"--{word}")
        for word in ("no-proxy-server", "disable-background-networking", f"user-data-dir={self.home / 'profile'}"):
            options.add_argument(f"--{word}")
        environment = {**os.environ, "HOME": str(self.home), "TMPDIR": str(self.home)}
        self.service = webdriver.ChromeService(find("chromedriver"), env=environment)
        try:
            self.driver = webdriver.Chrome(options=options, service=self.service)
        except BaseException:
            self.__exit__()
            raise
        return self.driver

    def __exit__(self, *_):
        """Close it, and kill what does not end by itself."""
        started = []
        with contextlib.suppress(AttributeError, psutil.Error):  # there is no process
            chromedriver = psutil.Process(self.service.process.pid)
            started = [chromedriver, *chromedriver.children(recursive=True)]
        with contextlib.suppress(Exception):  # whatever is wrong with it, it has to go
            if self.driver:
                self.driver.quit()
            self.service.stop()
        _, alive = psutil.wait_procs(started, timeout=5)
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(alive, timeout=5)
        shutil.rmtree(self.home, ignore_errors=True)  # some megabytes


def accessibility_faults(driver):
    """Return what axe finds wrong with the page that is open: pairs of a rule and the elements that break it.

    Frames are left out: a recorded scene is a page by itself, and is tested as one. See
    https://github.com/dequelabs/axe-core.
    """
    import axe_core_python  # here, since most tests can do without

    driver.set_script_timeout(AXE_PATIENCE)
    driver.execute_script((pathlib.Path(axe_core_python.__file__).parent / "axe.min.js").read_text())
    found = driver.execute_async_script(RUN_AXE)
    return [(fault["id"], [node["html"][:150] for node in fault["nodes"]][:3]) for fault in found]
