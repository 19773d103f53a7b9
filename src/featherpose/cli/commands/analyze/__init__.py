"""``featherpose analyze``: tables about a model, each with the published figure beside ours."""

from __future__ import annotations

from cyclopts import App

__all__ = ["analyze"]

analyze = App(name="analyze", help="The tables behind the design, the published figure beside ours.")

# Name -> one line; the function of that name lives in ``NAME.py`` beside this file and is imported when it is called.
_ANALYSES = {
    "complexity": "Multiply-accumulates and parameters by part, with running totals.",
    "stages": "AP after the initial and after every refinement stage.",
    "postprocessing": "Time of decoding against the number of people, for the slides' steps and ours.",
    "pipeline": "Network and post-processing together, baseline against proposed.",
    "pareto": "AP against time and multiply-accumulates for a list of models and heights.",
    "tradeoff": "AP against time by the number of people, for systems of every kind; the slides' table beside.",
    "difference": "Two systems on the same images: the difference in AP and its interval.",
    "roofline": "What fraction of the machine's peak each network reaches.",
}

for _name, _help in _ANALYSES.items():
    analyze.command(f"featherpose.cli.commands.analyze.{_name}:{_name}", name=_name, help=_help)
