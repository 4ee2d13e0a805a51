"""The command line: cyclopts parses, rich draws, `commands/` has one module for each topic.

`app.run(argv, stdout, stderr)` is the one way in.
"""
