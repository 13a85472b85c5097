"""A process that answers every connection with 200: `toy_part.py PORT [option...]`.

Options: `stubborn` ignores SIGTERM; `child` starts a process that sleeps, in the same session; `say=TEXT` prints a
line; `fail` exits with 3 before it listens.
"""

import os
import signal
import socket
import sys


def main() -> None:
    port, options = int(sys.argv[1]), sys.argv[2:]
    if "fail" in options:
        sys.exit(3)
    if "stubborn" in options:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "child" in options and os.fork() == 0:
        os.execv("/bin/sleep", ["sleep", "600"])
    for option in options:
        if option.startswith("say="):
            sys.stdout.write(option.removeprefix("say=") + "\n")
            sys.stdout.flush()
    listener = socket.create_server(("127.0.0.1", port))
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")


main()
