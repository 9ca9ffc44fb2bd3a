"""Projects: labels from people, round after round, and when to stop."""
