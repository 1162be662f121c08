"""The captions of the figures: what each shows, how many seeds and samples, which interval.

What the words mean is in docs/theory.md §4 and §5.
"""

import xarray as xr

from featpur_sim.runs.diagnosis import finished

CAPTIONS: dict[str, str] = {
    "both_sides": "Robust accuracy against ANY perturbation of norm τ: no attack of the run breaks "
    "more than the solid line leaves, the dash-dotted line is proved, and the truth lies in the "
    "shade between them. {sides} The first {certified} of {samples} test samples each.",
    "robust_accuracy": "Accuracy against attack radius, one panel per attack; the dotted line "
    "marks the training radius. Transferred examples are made on another seed's clean-trained "
    "network; PGD on support moves active coordinates only. Every attack bounds robust accuracy "
    "from above. {spread} {samples} test samples each.",
    "purification": "Dense share of the weights (medians over carriers) and accuracies through "
    "both phases; horizontal lines are the heuristic scalings for sparse activation, not fits. "
    "{spread}",
    "coordinates": "Coordinates of the {shown} neurons of the first seed with the largest clean "
    "|α|, one row each, signed by w* and divided by the row's largest: a dense mixture is a "
    "background of one colour, a pure neuron one dark cell. The scale is clipped; one seed, no "
    "interval.",
    "dense_margin": "Margin along the dense direction in units of the median at radius 0, median "
    "and 10–90\u00a0% of {samples} test samples, both averaged over {seeds}; below 0 the label is "
    "wrong; the dotted line marks the training radius. A phase whose median margin is not "
    "positive is left out.",
    "surgery": "Accuracy with the dense mixtures of the clean-trained network cut out of it, or "
    "put into the purified one. {spread} {samples} test samples each.",
    "overlaps": "Overlap θ between a neuron's weights at two stages of training, for the neurons "
    "that carry a feature after clean training; 40 bins. {spread}",
    "update_spectrum": "Singular values of what purification changes, with and without rescaling "
    "each neuron by its least-squares β, and the share of the squared norm that the leading ones "
    "hold. {spread}",
    "accuracy_along": "Accuracy under PGD at the training radius during the adversarial phase, "
    "from the clean-trained network on. {spread} {samples} test samples each.",
    "stationarity": "Is training at rest? Solid: the dense over the pure coefficient κ/α of the "
    "weights. Dashed: what the data push onto κ in units of what weight decay takes from α, on "
    "fresh samples, each point a mean over five records. The two are equal where training rests; "
    "above the solid line mixtures grow, below it they are shed. Scale linear within "
    "±0.1. {spread}",
}
"""Name → caption with fields to fill in; see `caption`."""


def caption(name: str, result: xr.Dataset) -> str:
    """The caption of a figure with the numbers of seeds and test samples of this result.

    Args:
        name: a key of :data:`CAPTIONS`.
        result: the Dataset of one run.

    Returns:
        One to four sentences.
    """
    count = int(finished(result).sum())
    seeds = f"{count} seeds" if count > 1 else "one seed"
    spread = sides = "One seed, so no interval."
    if count > 1:
        spread = f"Mean over {seeds}; bands and bars: 95\u00a0% t-interval."
        sides = (
            f"Lines: means over {seeds}; bars: from the lower end of the 95\u00a0% t-interval of "
            "what is proved to the upper end of that of what no attack breaks."
        )
    return CAPTIONS[name].format(
        seeds=seeds,
        spread=spread,
        sides=sides,
        samples=result.attrs["test_samples"],
        certified=result.attrs.get("certify_points", 0),
        shown=result.sizes["shown"],
    )
