"""The Faust side: app factory and agents."""
