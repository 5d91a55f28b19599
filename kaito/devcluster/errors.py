"""The errors of kaito.devcluster.

DevClusterError                every error of this package
├── BinariesError              no source could provide a program; lists what each source said
│   ├── DownloadError          a release file could not be fetched
│   │   ├── UnreachableError   nothing answers at the server's address
│   │   ├── TruncatedError     fewer bytes came than were announced
│   │   └── ChecksumError      the bytes do not have the published SHA-256
│   └── BuildError             the Go toolchain is missing or its build failed
├── ProgramError               a program did not start, or ended unasked; has the tail of its log
├── DirectoryInUseError        another running control plane owns the folder
├── RequestError               the API server refused a request; has its status code
├── KubectlError               kubectl ended with an error; has its exit status and stderr
└── CancelledStartError        the start was given up by its caller
"""


class DevClusterError(Exception):
    """Every error of this package; the message names the thing, the cause and the next step."""


class BinariesError(DevClusterError):
    """No source could provide a program; the message lists what each source said."""


class DownloadError(BinariesError):
    """A release file could not be fetched."""


class UnreachableError(DownloadError):
    """Nothing answers at the server's address."""


class TruncatedError(DownloadError):
    """Fewer bytes came than the server announced."""


class ChecksumError(DownloadError):
    """The bytes that came do not have the published SHA-256."""


class BuildError(BinariesError):
    """The Go toolchain is missing or too old, or its build failed."""


class ProgramError(DevClusterError):
    """A program of the control plane did not start, or ended without being asked to.

    Attributes:
        program: Its name, for example `kube-apiserver`.
        log_tail: The last lines that it wrote.
    """

    def __init__(self, message: str, *, program: str, log_tail: str = "") -> None:
        super().__init__(message)
        self.program = program
        self.log_tail = log_tail


class DirectoryInUseError(DevClusterError):
    """Another running control plane owns the folder."""


class RequestError(DevClusterError):
    """The API server refused a request.

    Attributes:
        status: Its HTTP status code, for example 404.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class KubectlError(DevClusterError):
    """kubectl ended with an error.

    Attributes:
        returncode: Its exit status.
        stderr: What it wrote to standard error.
    """

    def __init__(self, message: str, *, returncode: int, stderr: str) -> None:
        super().__init__(message)
        self.returncode = returncode
        self.stderr = stderr


class CancelledStartError(DevClusterError):
    """The start was given up by its caller; nothing of it is left running."""
