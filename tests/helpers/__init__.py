"""What several test files share: data, doubles, scripts that tests start."""
