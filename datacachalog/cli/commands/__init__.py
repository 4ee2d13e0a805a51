"""The commands, one file a topic; each is imported when it is run."""
