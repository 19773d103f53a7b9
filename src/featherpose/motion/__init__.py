"""Motion: from poses over time to angles, repetitions, gait, jumps and speeds, with files of biomechanics.

    results file or video -> PoseSequence -> cleaning, filter -> angles -> events and measures -> files and a report

Every step is a pure function from one `PoseSequence` to the next, is optional, and is recorded in
``PoseSequence.steps``; the values as they were read stay in ``PoseSequence.original``.
"""
