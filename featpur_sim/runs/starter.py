"""The commented settings file that ``featpur init`` writes."""

STARTER = """\
# Settings of one featpur_sim run. Start it with:  featpur run FILE --out DIR
# Every key is checked before anything is computed; keys with a default may be left out.

name = "my-run"
seed = 0        # names w*, the dictionary and all random streams
seeds = 5       # independent runs, trained together; intervals are over these
records = 30    # record points per phase along training

[problem]       # x = M z + xi,  y = sign <w*, z>
d = 64          # input dimension
k = 5           # sparsity: about k of the features are active; the window is d^(1/3) < k < d^(1/2)
sigma_x = 0.3   # noise: |xi| is about sigma_x
p_one = 1.0     # expected number of coordinates with |z_j| = 1
law = "two-level"        # or "uniform-magnitude", or "levels" with levels = [..], rates = [..],
                         # or "gaussian-twin", the control without sparsity,
                         # or code of yours, "module:Law" (--allow-import), with parameters = {..}
wstar = "signs"          # or "uniform" with wstar_range = [a, b],
                         # or "own" with wstar_values = [..] or wstar_file = "w.npy"
dictionary = "identity"  # or "haar", "hadamard", "dct"; "incoherent" with features = D > d,
                         # or "own" with dictionary_values = [[..]] or dictionary_file = "M.npy"
# draw = "per-seed"      # w* and M new for every seed, or "shared" by all; if left out, per seed
                         # where results depend on them: "uniform", D > d, "linf" with another M

[network]       # f(x) = sum_i ReLU(<w_i,x> - b) - ReLU(-<w_i,x> - b)
neurons = 256   # m; the presets use 4 d
sigma_0 = 0.01  # standard deviation of the initial weights
smoothing = "none"       # or "sampled" / "closed" with sigma_rho > 0

[clean]         # clean phase: gradient descent on fresh samples
steps = 3000
learning_rate = 0.5
weight_decay = 1e-4
batch = 512
# microbatch = 128       # accumulate the gradient over chunks of this many samples
# dataset_size = 20000   # train on this many fixed samples instead of fresh ones
# optimizer = "sgd"      # or "adam", "adamw", "rmsprop", "lion"

[clean.bias]    # the threshold b while the weights grow
schedule = "linear-ramp" # one b for all neurons; or "per-neuron", "tabulated", "frozen"
start = 0.0
stop = 0.06
fraction = 0.5           # reached after this fraction of the phase

[adversarial]   # adversarial phase: the same on attacked samples, b fixed
steps = 3000
learning_rate = 0.5
weight_decay = 1e-4
batch = 512
attack = "fgm"           # or "pgd" with pgd_steps, or "random-noise"
norm = "l2"              # or "linf"
radius = 0.134           # tau, in units of x; 0.3/sqrt(k) here
# rank = 4               # train A and B of W + AB, a change of this rank, instead of W

[evaluation]    # attacks on the trained networks; radii in units of tau, 0 and 1 among them
samples = 1000           # test points per seed
radii = [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0]
pgd_steps = 40
pgd_restarts = 2
certify_points = 1000    # certify the first so many test points too; 0: none
"""
