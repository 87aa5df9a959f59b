"""Publishing turns a finished merge into one commit on the Hub."""
