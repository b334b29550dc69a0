"""The Python action without Fail2Ban, in any Python: run-action.py ACTION PARAMETER=VALUE.. bans, prolongs and flushes."""

import logging
import sys
import types


class ActionBase(object):
    """As in fail2ban/server/action.py."""

    def __init__(self, jail, name):
        self._jail = jail
        self._name = name
        self._logSys = logging.getLogger("fail2ban")


def stand_in(name, **members):
    module = types.ModuleType(name)
    module.__dict__.update(members)
    sys.modules[name] = module


stand_in("fail2ban")
stand_in("fail2ban.server")
stand_in("fail2ban.server.action", ActionBase=ActionBase)
logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(message)s")

action = {"__name__": "action"}
with open(sys.argv[1]) as source:
    exec(compile(source.read(), sys.argv[1], "exec", dont_inherit=True), action)
jail = types.SimpleNamespace(name="web")
ban = {"ip": "203.0.113.5", "fid": "203.0.113.5", "time": 1767225600.5, "bantime": 600, "failures": 5, "restored": False}

served = action["Action"](jail, "banlist", **dict(word.split("=", 1) for word in sys.argv[2:]))
served.start()
served.ban(ban)
served.prolong(dict(ban, bantime=1200))
served.ban(dict(ban, ip="2001:db8::5", fid="2001:db8::5"))
served.unban(dict(ban, ip="2001:db8::5", fid="2001:db8::5"))
served.ban(dict(ban, restored=True))
try:
    served.ban(dict(ban, ip="127.0.0.1", fid="127.0.0.1"))
    print("loopback was banned")
except RuntimeError as error:
    assert "protected" in str(error), error
served.flush()
served.stop()
