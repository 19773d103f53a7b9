"""Events in angle and position signals: repetitions, steps, jumps, sprints."""
