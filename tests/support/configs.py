"""The texts of configs that describe several backends, or hosts, in Lua."""

from support.peers import HOST


def lua(value):
    """Return a Python value as Lua has it."""
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)


def backend_text(backend, **fields):
    """Return a backend, or a port, as an entry of the list `backends`."""
    port = backend if isinstance(backend, int) else backend.port
    fields = {"address": HOST, "port": str(port)} | fields
    return "{" + ", ".join(f"{name} = {lua(value)}" for name, value in fields.items()) + "}"


def backends_text(*backends):
    """Return the list `backends`; each of them is itself, a port, or as backend_text makes it."""
    return f"{{{', '.join(b if isinstance(b, str) else backend_text(b) for b in backends)}}}"


def config_text(*backends, more="", **settings):
    """Return the text of a config: backends, each one itself or as backend_text makes it; other settings; more Lua."""
    lines = ['listenPort = "{port}"', f"backends = {backends_text(*backends)}"]
    lines += [f"{name} = {lua(value)}" for name, value in settings.items()]
    return "\n".join([*lines, more, ""])


def host_text(*backends, more="", **settings):
    """Return an entry of the table `hosts`: its backends, other settings, more Lua (check = {...})."""
    fields = [f"backends = {backends_text(*backends)}", *(f"{name} = {lua(value)}" for name, value in settings.items())]
    return f"{{{', '.join([*fields, *([more] if more else [])])}}}"


def hosts_text(hosts, more="", **settings):
    """Return the text of a config: hosts by name, each a backend or as host_text makes it; other settings; more Lua."""
    lines = ['listenPort = "{port}"', "hosts = {"]
    for name, host in hosts.items():
        lines.append(f'  ["{name}"] = {host if isinstance(host, str) else host_text(host)},')
    lines += ["}", *(f"{name} = {lua(value)}" for name, value in settings.items())]
    return "\n".join([*lines, more, ""])


def redis_text(redis, hosts=None, fields=None, more="", **settings):
    """Return the text of a config with a redis: its port, or what has one, and more fields; the rest as hosts_text."""
    fields = {"address": HOST, "port": str(getattr(redis, "port", redis))} | (fields or {})
    table = ", ".join(f"{name} = {lua(value)}" for name, value in fields.items())
    text = hosts_text(hosts or {}, more=f"redis = {{{table}}}\n{more}", **settings)
    return text if hosts else text.replace("hosts = {\n}\n", "")
