"""The command line: cyclopts commands, rendering, progress, and the door for errors.

`run(argv, stdout, stderr)` in `door` is the one way in. Modules named by a verb
(`fetching`, `showing`, ...) hold commands and are imported when one of theirs is run.
"""
