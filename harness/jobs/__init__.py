"""From specs to stored outcomes: plan, kernel, executors, runner."""
