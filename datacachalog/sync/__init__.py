"""The line that every command walks: resolve, plan, transfer; `dataset` tells it in one piece."""
