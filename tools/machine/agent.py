#!/usr/bin/python3
"""Runs scripts in the machine, without the price of ssh: each request on the port is a line "LIMIT BYTES" and a script of
bash, each answer a line "CODE BYTES" and all that the script printed."""
import os
import signal
import subprocess
import time

port = open("/dev/virtio-ports/agent", "r+b", buffering=0)


def read(count):
    data = b""
    while len(data) < count:
        part = port.read(count - len(data))
        if part:
            data += part
        else:
            time.sleep(0.1)  # no host is there
    return data


def line():
    text = b""
    while not text.endswith(b"\n"):
        text += read(1)
    return text


def run(script, limit):
    # In memory: a scenario fills the disk.
    with os.fdopen(os.memfd_create("output"), "w+b") as output:
        child = subprocess.Popen(["bash", "-s"], stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True, cwd="/root")
        try:
            child.communicate(script, timeout=limit)
            code = child.returncode
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            code = child.wait()
            output.write(b"\n(no end within %d s)\n" % limit)
        output.seek(0)
        return code, output.read()


while True:
    limit, count = map(int, line().split())
    code, output = run(read(count), limit)
    answer = b"%d %d\n" % (code, len(output)) + output
    while answer:
        answer = answer[port.write(answer) or 0 :]
