"""One request to "banctl serve": ask.py SOCKET COMMAND ADDRESS JAIL OPTION.. ends with the exit code of the answer.

It waits for a server. If the server hangs up before it answers, it ends with 99.
"""

import json
import socket
import sys
import time

PATIENCE = 60
NO_ANSWER = 99

path, command, address, jail = sys.argv[1:5]
options = {"jail": jail}
for option in sys.argv[5:]:
    name, has_value, value = option[2:].partition("=")
    options[name] = value if has_value else True
request = {"id": 1, "do": command, "options": options}
if address:
    request["address"] = address

end = time.monotonic() + PATIENCE
while True:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
        break
    except OSError:
        connection.close()
        if time.monotonic() > end:
            raise
        time.sleep(0.01)
connection.settimeout(PATIENCE)
try:
    connection.sendall(b'{"banctl":1}\n' + json.dumps(request).encode("ascii") + b"\n")
    answers = connection.makefile("rb")
    answers.readline()
    for line in answers:
        answer = json.loads(line.decode("utf-8"))
        if "exit" in answer:
            if answer["exit"] != 0:
                sys.stderr.write(answer["said"] + "\n")
            sys.exit(answer["exit"])
except socket.timeout:
    sys.exit("no answer in %d s" % PATIENCE)
except OSError:
    pass
sys.exit(NO_ANSWER)
