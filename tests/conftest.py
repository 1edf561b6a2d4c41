"""What every room's tests share: warnings of libraries that nobody here can mend, each with its reason."""

import warnings

with warnings.catch_warnings():
    # kafka-python 3.0 reads its protocol files with functions that Python 3.11 deprecates, once, on import
    warnings.filterwarnings("ignore", r"(read|open)_text is deprecated", DeprecationWarning)
    import kafka  # noqa: F401 - imported for the silence above
