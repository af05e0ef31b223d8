"""What the report of the selectivity study says in words, with places for what depends on the models."""

from __future__ import annotations

from typing import Final

HEAD: Final = """\
# Class selectivity and robustness: {dataset}

Leavitt and Morcos (arXiv 2010.07693) report that networks whose units are less class selective withstand corruptions
better, that more selective ones withstand white-box attacks better, and that dimensionality and the variability of
gradients go along. This report tests each statement again.

- Models: {architecture}, alpha in {alphas}, {seeds} seeds each, {sweep} in all; {others} trained another way. Alpha 0
  is the recipe `supervised`.
- Board: `{benchmark}` on {dataset}, {images} test images.
- Made by {run} and
  {report}.
"""

SUMMARY: Final = """\
## In short

{told}, of {count} statements.
They overlap, and nothing is corrected for their number: of {judged} intervals of 95 %, about {chance:.1f} would miss
the truth by chance.
"""

STATEMENTS: Final = """\
## Statements

rho is Spearman's correlation over models, of selectivity (in the first row of alpha) and the quantity that is named.
The interval that the verdict rests on resamples whole settings of alpha with all their seeds (cluster bootstrap),
since seeds of one setting are not designs of their own; with so few settings it is rather too narrow than too wide.
Samples repeat settings, and copies tie in rank, which pulls rho towards 0: near 1 the interval can end below the
estimate. The one beside it resamples models. p exchanges whole settings (permutation test, two-sided): over all orders,
or over random ones where it is marked (sampled); there is none where settings have unequal numbers of models. Verdict:
the interval is on the claimed side of 0 (agrees), on the other (disagrees), or holds 0 (undecided). rho sees monotone
relations only: "highest at" names the alpha with the highest mean. Rows marked (mean) are about a difference within
each model instead. Sources are abstracts; the full texts of the papers were not at hand.
"""

REVERSE: Final = """\
## The reverse direction

Selectivity of models that were trained for robustness, against the range of the supervised seeds. One seed each:
outside the range is a hint, not a test.
"""

DOUBTS: Final = """\
## Reasons to doubt

- **Clean accuracy** moves with alpha; retention and the share among images right clean take it out.
- **Gradient masking**: an attack that fails for want of a gradient looks like robustness. The board's checks (vanishing
  gradients, more steps, black box against white box, a large radius) raise flags, listed below, which
  `robustboard show MODEL` explains.
- **Dead units** have index 0, and a high alpha can win by silencing units: see their count above.
- **The floor**: with few images a class, the maximum of noisy class means is above their mean by chance. The number of
  images is the same for all models.
- **Best epoch**: weights are those of the epoch with the lowest objective on the validation part, regulariser
  included.
"""

DIFFERENCES: Final = """\
## What differs from the paper

- {architecture} on {dataset} in place of ResNet-18 on Tiny ImageNet and ResNet-20 on CIFAR-10, {epochs} epochs; the
  cards of the models hold all settings.
- {alphas} settings of alpha with {seeds} seeds each, in place of 15 or more settings with 20 seeds.
- Corruptions are made in memory by the published parameters, in place of the released files.
- Attacks work on pixels in [0, 1] with the normalisation inside the model, at radii of our choice; those of the paper
  could not be recovered. The change under corruptions is measured at severity 3 alone.
- Responses are spatial means of feature maps after the non-linearity; that the paper's dimensionality uses the same is
  our reading.
"""
