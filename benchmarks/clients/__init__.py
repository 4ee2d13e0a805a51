"""Programs that peers without a command line of their own are run by; each in its own venv."""
