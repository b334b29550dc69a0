"""Fail2Ban action: bans in Apache, handed to "banctl serve" over a socket.

It does what action.d/apache-banlist.conf does, with the same parameters, and
starts no shell and no program for a ban. In jail.local:

    action = apache-banlist.py[jail=%(__name__)s]

If no server runs, or it does not answer within 5 s, the action runs banctl
itself, as the .conf does, and logs that once in Fail2Ban's log.
"""

import json
import os
import signal
import socket
import struct
import subprocess
import threading
import time

from fail2ban.server.action import ActionBase

# The protocol: docs/serve.md. The server's first line names its own.
PROTOCOL = 1
SOCKET = "/run/banctl/socket"
# Longest wait for the server, and for the program, for which it is Fail2Ban's own limit of a command. Seconds.
PATIENCE = 5
PROGRAM_PATIENCE = 60
# After a timeout, the action does not ask the server for this long, because each ban would wait for it. Seconds.
SILENCE = 60
# V8 ends by this signal where it may not make code or reserve addresses.
FORBIDDEN = -signal.SIGTRAP
FORBIDDEN_WHY = "it cannot start: MemoryDenyWriteExecute=yes or LimitAS= of fail2ban.service forbids it, see fail2ban-banctl.conf"
# Bytes of an answer; characters of it in the log.
LONGEST_ANSWER = 1 << 20
LONGEST_MESSAGE = 4000

# Every parameter is empty by default: /etc/banctl.json is the one place to set things.
PARAMETERS = {
    "banctl": "banctl",
    "socket": SOCKET,
    "banlist": "",
    "bandir": "",
    "apache_reload_cmd": "",
    "apachectl": "",
    "reload_interval": "",
    "ipv6_prefix": "",
    "protect": "",
    "dbfile": "",
    "fail2ban_client": "",
}

# The parameters as options of banctl, by command: the order of the .conf.
COMMON = (
    ("jail", "jail"),
    ("banlist", "banlist"),
    ("bandir", "bandir"),
    ("reload-command", "apache_reload_cmd"),
    ("apachectl", "apachectl"),
    ("reload-interval", "reload_interval"),
)
PROTECTION = (("protect", "protect"), ("ipv6-prefix", "ipv6_prefix"))
DATABASE = (("fail2ban-db", "dbfile"), ("fail2ban-client", "fail2ban_client"))


class NotServed(Exception):
    """The server cannot be reached, or does not answer: the action must run banctl."""


class Connection(object):
    """One connection to the server, which answers one request after the other."""

    def __init__(self, path, hello, deadline):
        self.pid = os.getpid()
        self.path = path
        self.rest = b""
        self.number = 0
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._wait_until(deadline)
            self.socket.connect(path)
            self._refuse_stranger()
            greeting = self._read(deadline)
            if greeting.get("banctl") != PROTOCOL:
                raise NotServed("what answers at %s is of another version" % path)
            # Both clocks are monotonic; by its own, the server knows whether the action still waits for a request.
            self.ahead = float(greeting["now"]) - time.monotonic()
            self._write(dict(hello, banctl=PROTOCOL))
        except (KeyError, TypeError, ValueError):
            self.close()
            raise NotServed("what answers at %s is not banctl" % path)
        except BaseException:
            self.close()
            raise

    def ask(self, request, deadline, patience):
        """Returns the answer. Each sign of life of the server gives it PATIENCE more, up to `patience` in all."""
        self.number += 1
        last = time.monotonic() + patience
        self._wait_until(deadline)
        self._write(dict(request, id=self.number, before=deadline + self.ahead))
        while True:
            answer = self._read(min(deadline, last))
            if answer.get("id") != self.number:
                raise NotServed("what answers at %s is not banctl" % self.path)
            if "exit" in answer:
                return answer
            deadline = time.monotonic() + PATIENCE

    def close(self):
        # In a child process of Fail2Ban, this closes only the child's copy.
        self.socket.close()

    def _refuse_stranger(self):
        credentials = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        if struct.unpack("3i", credentials)[1] not in (0, os.geteuid()):
            raise NotServed("what answers at %s belongs to another user" % self.path)

    def _wait_until(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout("timed out")
        self.socket.settimeout(left)

    def _write(self, message):
        self.socket.sendall(json.dumps(message).encode("ascii") + b"\n")

    def _read(self, deadline):
        while b"\n" not in self.rest:
            self._wait_until(deadline)
            piece = self.socket.recv(65536)
            if not piece:
                raise ConnectionResetError("it has closed the connection")
            self.rest += piece
            if len(self.rest) > LONGEST_ANSWER:
                raise NotServed("what answers at %s is not banctl" % self.path)
        line, self.rest = self.rest.split(b"\n", 1)
        try:
            message = json.loads(line.decode("utf-8"))
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise NotServed("what answers at %s is not banctl" % self.path)
        return message


class Action(ActionBase):
    """The action of one jail."""

    # Fail2Ban looks at both in each action.
    banEpoch = 0
    _prolongable = True

    # "jail" and "name" are parameters of the action too.
    def __init__(self, f2b_jail, f2b_name, /, **parameters):
        super(Action, self).__init__(f2b_jail, f2b_name)
        self._connection = None
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._said = False
        self._silent_until = 0
        self._fallbacks = 0
        self._list = (None, {})
        self._take(parameters)

    def reload(self, **parameters):
        """The jail was read again."""
        self._take(parameters)
        self._disconnect()

    def clearAllParams(self):
        """Fail2Ban calls it before reload(), which sets every parameter."""
        return True

    def start(self):
        """When the jail starts, makes its holds equal to its bans in Fail2Ban's database."""
        options = self._options(COMMON + PROTECTION + DATABASE)
        self._do("sync", options, flags=["from-database"], patience=PROGRAM_PATIENCE - PATIENCE)

    def stop(self):
        """flush() has released the holds."""
        self._disconnect()

    def flush(self):
        """Replaces an unban for each address when the jail stops, and for "unban --all"."""
        self._do("flush", self._options(COMMON), patience=PROGRAM_PATIENCE - PATIENCE)
        return True

    def ban(self, aInfo):
        self._ban(aInfo, bool(aInfo["restored"]))

    def reban(self, aInfo):
        self._ban(aInfo, False)

    def prolong(self, aInfo):
        """With bantime.increment: the same ban, with a later end."""
        self._ban(aInfo, False)

    def unban(self, aInfo):
        options = self._options(COMMON)
        options["id"] = str(aInfo["fid"])
        self._do("unban", options, address=str(aInfo["ip"]))

    def _ban(self, aInfo, restored):
        options = self._options(COMMON + PROTECTION)
        options["id"] = str(aInfo["fid"])
        options["since"] = str(aInfo["time"])
        options["for"] = str(aInfo["bantime"])
        options["reason"] = "%s failures" % aInfo["failures"]
        self._do("ban", options, address=str(aInfo["ip"]), restored=restored)

    def _take(self, parameters):
        for name, default in PARAMETERS.items():
            setattr(self, name, str(parameters.get(name, default)))
        self.name = str(parameters.get("name", "") or self._jail.name)
        self.jail = str(parameters.get("jail", "") or self.name)

    def _options(self, table):
        return dict((option, self._value(name)) for option, name in table)

    def _value(self, name):
        """Resolves paths in Fail2Ban's working directory, wherever the server runs."""
        value = getattr(self, name)
        if value and name in ("banlist", "bandir", "dbfile"):
            return os.path.abspath(value)
        return value

    def _do(self, command, options, address=None, flags=(), restored=False, patience=PATIENCE):
        request = {"do": command, "options": dict((name, text) for name, text in options.items() if text)}
        for flag in flags:
            request["options"][flag] = True
        if address is not None:
            request["address"] = address
        if restored:
            request["restored"] = True
        try:
            code, said = self._ask(request, patience)
        except NotServed as error:
            self._say_once(error)
            # A jail that counts by <F-ID> has a hold for each id, which is not looked for here.
            if restored and options["id"] == address and self._listed(address):
                return
            code, said = self._run(command, options, flags, address)
        self._conclude(code, said)

    def _conclude(self, code, said):
        """69 counts as success: the change is in the list, only the reload failed. Otherwise Fail2Ban never lifts it."""
        said = said.strip()[:LONGEST_MESSAGE]
        if code == 69:
            self._tell_syslog(said)
        elif code != 0:
            raise RuntimeError("banctl ended with %s: %s" % (code, said))
        if said:
            self._logSys.debug("[%s] %s", self._jail.name, said)

    def _tell_syslog(self, said):
        try:
            subprocess.call(
                ["logger", "-t", "banctl", "-p", "daemon.err", "--", said],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=PATIENCE,
            )
        except (OSError, ValueError, subprocess.SubprocessError):
            pass

    def _say_once(self, error):
        self._fallbacks += 1
        if self._said:
            return
        self._said = True
        self._logSys.warning("[%s] banctl serve does not answer (%s); running %s for each change instead",
            self._jail.name, error, self.banctl)

    def _ask(self, request, patience):
        self._forget_parent()
        deadline = time.monotonic() + PATIENCE
        if not self._lock.acquire(timeout=PATIENCE):
            raise NotServed("it is busy with another change of this jail")
        try:
            if time.monotonic() < self._silent_until:
                raise NotServed("it was silent for %s s" % PATIENCE)
            answer = self._ask_twice(request, deadline, patience)
        finally:
            self._lock.release()
        if self._said:
            self._said = False
            self._logSys.info("[%s] banctl serve answers again", self._jail.name)
        return answer

    def _ask_twice(self, request, deadline, patience):
        """An ending server may have made the change already; asking its successor again is safe."""
        for last in (False, True):
            try:
                if self._connection is None:
                    self._connection = self._connect(deadline)
                answer = self._connection.ask(request, deadline, patience)
                return int(answer["exit"]), str(answer.get("said", ""))
            except socket.timeout:
                self._close()
                self._silent_until = time.monotonic() + SILENCE
                raise NotServed("it was silent for %s s" % PATIENCE)
            except (NotServed, TypeError, ValueError) as error:
                self._close()
                raise NotServed(error)
            except OSError as error:
                self._close()
                if last or isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
                    raise NotServed("%s: %s" % (self.socket, error.strerror or error))

    def _connect(self, deadline):
        variables = dict((name, text) for name, text in os.environ.items() if name.startswith("BANCTL_"))
        connection = Connection(self.socket, {"env": variables, "fallbacks": self._fallbacks}, deadline)
        self._fallbacks = 0
        return connection

    def _disconnect(self):
        self._forget_parent()
        if self._lock.acquire(timeout=PATIENCE):
            try:
                self._close()
            finally:
                self._lock.release()

    def _close(self):
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _forget_parent(self):
        """After a fork, the connection belongs to the parent, and its lock may stay held for ever."""
        if self._owner != os.getpid():
            self._owner = os.getpid()
            self._lock = threading.Lock()
            self._close()

    def _run(self, command, options, flags, address):
        line = [self.banctl, command]
        line += ["--%s=%s" % option for option in options.items()]
        line += ["--%s" % flag for flag in flags]
        if address is not None:
            line += ["--", address]
        try:
            program = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, start_new_session=True)
        except (OSError, ValueError) as error:
            return 127, "%s: %s" % (self.banctl, error)
        try:
            said = program.communicate(timeout=PROGRAM_PATIENCE)[0]
        except subprocess.TimeoutExpired:
            self._kill(program)
            return 124, "%s did not end within %s s and was killed" % (self.banctl, PROGRAM_PATIENCE)
        if program.returncode == FORBIDDEN:
            return 133, FORBIDDEN_WHY
        return program.returncode, said.decode("utf-8", "replace")

    def _kill(self, program):
        """Ends the program and its children, as Fail2Ban ends a command."""
        for ending in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(program.pid, ending)
                program.communicate(timeout=1)
            except (OSError, ValueError, subprocess.TimeoutExpired):
                pass

    def _listed(self, address):
        """True if this jail's hold and the ban below it exist, in the default places, as in the .conf."""
        directory = self.bandir or "/etc/apache2/djangoapp/bans"
        banlist = self.banlist or "/etc/apache2/djangoapp/banlist.conf"
        hold = "| %s %s since " % (self.jail, address)
        ban = "Require not ip %s" % address
        return hold in self._holds(os.path.join(directory, address)).get(ban, "") or \
            hold in self._listed_holds(banlist).get(ban, "")

    def _listed_holds(self, banlist):
        try:
            found = os.stat(banlist)
        except OSError:
            return {}
        version = (banlist, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        if self._list[0] != version:
            self._list = (version, self._holds(banlist))
        return self._list[1]

    def _holds(self, path):
        """The line above each line of a list."""
        try:
            with open(path, encoding="utf-8", errors="replace", newline="\n") as opened:
                lines = opened.read().split("\n")
        except (OSError, ValueError):
            return {}
        return dict(zip(lines[1:], lines))
