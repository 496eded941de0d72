"""Import the package before any test module imports paddle, which reads its environment only once."""

import signal

import ppocr_slim  # noqa: F401

# A shell starts what it runs in the background with Ctrl-C ignored, and every process that a test starts inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
