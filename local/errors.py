"""What can go wrong with the local system in a way that a person can mend; all of it is final until somebody does.

```
LocalError
├── SettingError        a variable holds what it cannot mean
├── BuildError          a program cannot be built
├── KubectlError        kubectl ended with an error
├── ClusterError        the cluster refuses what the system needs
├── UpError             `up` cannot go on
└── SupervisorError     the supervisor refused a request, or ended
    └── NotRunningError no supervisor runs for this home
```
The message is for people: it names the thing and, where there is one, the remedy. Several lines are several things.
"""

from __future__ import annotations


class LocalError(Exception):
    """The root: the command prints the message and exits with 1."""


class SettingError(LocalError):
    """A variable holds what it cannot mean; the message names it."""


class BuildError(LocalError):
    """A program could not be built; the message says what to install or shows the compiler's words."""


class KubectlError(LocalError):
    """kubectl ended with an error; the message is what it said."""


class ClusterError(LocalError):
    """The cluster refuses what the system needs; the message says what and why."""


class UpError(LocalError):
    """`up` cannot go on; each line of the message is a thing and its remedy."""


class SupervisorError(LocalError):
    """The supervisor refused a request, or ended."""


class NotRunningError(SupervisorError):
    """No supervisor runs for this home."""
