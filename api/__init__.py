"""The leaderboard over HTTP: JSON under /api/v1 and pages for people. It reads the store and imports no torch."""
