"""What each claim says, in a sentence, and where it is from (docs/theory.md §5).

The claims with their rules and thresholds are in `of_run`, `of_classes`, `of_readouts` and
`of_dynamics`.
"""

MEANINGS: dict[str, tuple[str, str]] = {
    "C1": ("Clean training reaches high accuracy on clean data.", "[P]"),
    "C2": (
        "At a radius τ well below 1/√k the clean-trained network fails, and one fixed direction "
        "known in advance, δ = −yτ·Mw*/‖Mw*‖, is enough: no gradient of the network is needed.",
        "[P]",
    ),
    "C3": (
        "A cause is a dense mixture in each hidden neuron: beside its own feature it holds a "
        "small coefficient on every other feature, all along Mw*. (The paper's abstract: version "
        "1, adversarial examples 'are due to' such mixtures; version 4, 'one of the causes'.) "
        "Whether output weights can undo it is C13.",
        "[P]",
    ),
    "C4": ("On clean data the dense mixtures do almost no harm.", "[P], estimate in §5.1"),
    "C5": (
        "Adversarial training with FGM at radius τ protects against every perturbation of that "
        "radius. Attacks alone cannot show this; at finite size the yardstick is the pure "
        "network, not 100 %.",
        "[P], yardstick [D] §5.2",
    ),
    "C6": (
        "It does so by purification: the dense share κ/α of the weights falls many times over "
        "while a neuron's direction turns far less than it did in training from the start. That "
        "this is enough is C12, that it is necessary C13.",
        "[P]",
    ),
    "C7": ("Purification is a small change: updates of low rank are enough.", "[P] version 4"),
    "C8": (
        "Simpler models – linear, polynomials of low degree, the tangent kernel of this network – "
        "are not robust at this radius, whatever trains them.",
        "[P], §6",
    ),
    "C9": ("Neurons that hold a winning ticket at the start end with that feature.", "[P]"),
    "C10": (
        "Adversarial examples carry over between independently started clean-trained networks, "
        "which share the direction Mw*, and not to purified ones.",
        "[D] from C3",
    ),
    "C11": (
        "Random noise of norm τ does not hurt the clean-trained network: it is not fragile in "
        "general.",
        "[D]",
    ),
    "C12": (
        "Robustness sits in the features and is inherited: a readout that is trained anew on "
        "purified hidden weights, on clean data alone, is as robust as the purified network, for "
        "its own labels and for new ones.",
        "Xing et al., arXiv:2401.15248",
    ),
    "C13": (
        "Hidden weights have to be purified: a readout trained adversarially on the features of "
        "clean training, or on random ones, does not do. Against it: in multi-index models the "
        "features of clean training are enough.",
        "[D] from C6; against it Mousavi-Hosseini et al., arXiv:2410.16449",
    ),
    "C14": (
        "At this size, with constants: the closure, which follows four numbers a neuron from the "
        "initial weights on, predicts what the run measures.",
        "[D] §7",
    ),
}

TITLES: dict[str, str] = {
    "C1": "clean training works",
    "C2": "the clean network is fragile",
    "C3": "dense mixtures are a cause",
    "C4": "mixtures hardly matter on clean data",
    "C5": "FGM training makes robust",
    "C6": "it purifies the weights",
    "C7": "updates of low rank are enough",
    "C8": "simple models are not robust",
    "C9": "winning tickets win",
    "C10": "adversarial examples transfer",
    "C11": "random noise is harmless",
    "C12": "robustness sits in the features",
    "C13": "hidden weights must be purified",
    "C14": "the closure predicts this run",
}
"""Each in a few words, for tables."""
