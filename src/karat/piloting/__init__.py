"""The pilot: which recipe and which provider pay for this task, found out on few rows."""
