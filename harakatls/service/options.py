"""What may stand behind ``twistd harakatls``."""

from twisted.python import usage


class Options(usage.Options):
    """The server is configured by files; the command line only says where they are."""

    longdesc = (
        "Start the SMTP server that is configured by the files in DIR. "
        "`harakatls init` makes a directory to begin with."
    )
    optParameters = [  # noqa: N815  # Twisted's name
        ["config", "c", "./config", "The config directory."],
    ]
