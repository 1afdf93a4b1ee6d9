"""Faults that are planted in the source one at a time, and the tests that must catch each.

The first group once passed the whole suite. A fault's text must stand exactly once in its file, so
that the list is mended together with the code.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

PACKAGE = "src/sharpflat"
STATE, MEASURE, LOOP = (f"{PACKAGE}/training/{name}.py" for name in ("state", "measure", "loop"))
TRAIN, BATCHES, RUN_ENERGY = (
    f"{PACKAGE}/training/{name}.py" for name in ("train", "batches", "energy")
)
MLP, CNN, RESNET, VIT, TRANSFORMER, GPT, ENCODER = (
    f"{PACKAGE}/tasks/models/{name}.py"
    for name in ("mlp", "cnn", "resnet", "vit", "transformer", "gpt", "encoder")
)
DATA, LOSSES = f"{PACKAGE}/tasks/data.py", f"{PACKAGE}/tasks/losses.py"
READ = "tests/curvature/test_batches.py::test_"
DERIVATIVES = "tests/curvature/test_derivatives.py::test_"
OPERATORS, SUBSPACE, TRACKER, ENERGY = (
    f"{PACKAGE}/curvature/{name}.py" for name in ("operators", "subspace", "tracker", "energy")
)
OPTIM, METHODS = f"{PACKAGE}/optim.py", f"{PACKAGE}/methods.py"
STATISTICS, STABILITY, INTERVALS = (
    f"{PACKAGE}/analysis/{name}.py" for name in ("statistics", "stability", "intervals")
)
CLAIMS = f"{PACKAGE}/analysis/claims"

REFERENCE = "tests/tasks/test_model_reference.py::test_"
DECIDES = "tests/training/test_record_decides.py::test_"
RECORDED = "tests/training/test_recorded.py::test_"
COLUMN = f"{RECORDED}a_column_is_what_it_says"
ENERGY_ROWS = "tests/training/test_energy_definitions.py::test_"


@dataclass(frozen=True)
class Fault:
    """A wrong line.

    Attributes:
        name: What goes wrong.
        file: Where, from the root.
        text: What stands there, once.
        replacement: What stands there instead.
        tests: Of which at least one must fail.
    """

    name: str
    file: str
    text: str
    replacement: str
    tests: tuple[str, ...]

    def planted_in(self, source: str) -> str:
        """The source with the fault.

        Raises:
            ValueError: The text does not stand there exactly once.
        """
        count = source.count(self.text)
        if count != 1:
            raise ValueError(
                f"fault {self.name!r}: its text is {count} times in {self.file}, not once: "
                "find where that line went, or drop the fault"
            )
        return source.replace(self.text, self.replacement)


SURVIVED_ONCE = (
    Fault(
        "batches ignore the seed",
        STATE,
        'seed=stream_seed(record.seed, "batches")',
        "seed=0",
        (f"{DECIDES}the_seed_decides_initialisation_and_batches",),
    ),
    Fault(
        "initialisation ignores the seed",
        STATE,
        'seed=stream_seed(record.seed, "initialisation")',
        "seed=0",
        (f"{DECIDES}the_seed_decides_initialisation_and_batches",),
    ),
    Fault(
        "the eigensolver ignores the seed",
        STATE,
        'seed=stream_seed(record.seed, "eigensolver")',
        "seed=0",
        (f"{DECIDES}the_seed_decides_the_eigensolvers_vectors",),
    ),
    Fault(
        "a CNN without ReLU",
        CNN,
        "kernel_size=3, padding=1), nn.ReLU()]",
        "kernel_size=3, padding=1)]",
        (f"{REFERENCE}cnn",),
    ),
    Fault(
        "an MLP without its activation",
        MLP,
        "nn.Linear(fan_in, fan_out), ACTIVATIONS[activation]()]",
        "nn.Linear(fan_in, fan_out)]",
        (f"{REFERENCE}mlp",),
    ),
    Fault(
        "average for maximum pooling",
        CNN,
        "nn.MaxPool2d(2)",
        "nn.AvgPool2d(2)",
        (f"{REFERENCE}cnn",),
    ),
    Fault(
        "a Transformer that normalises before its blocks",
        TRANSFORMER,
        "norm_first=False",
        "norm_first=True",
        (f"{REFERENCE}transformer",),
    ),
    Fault(
        "a Transformer of one head",
        ENCODER,
        "            heads,\n",
        "            1,\n",
        (f"{REFERENCE}transformer",),
    ),
    Fault(
        "a Transformer with ReLU",
        ENCODER,
        'activation="gelu"',
        'activation="relu"',
        (f"{REFERENCE}transformer",),
    ),
    Fault(
        "the test loss is the training loss",
        MEASURE,
        '"test_loss": test_loss',
        '"test_loss": train_loss',
        (COLUMN,),
    ),
    Fault(
        "the mini-batch's alignment is that of the full gradient",
        MEASURE,
        "subspace.alignment(batch_gradient)",
        "subspace.alignment(gradient)",
        (COLUMN,),
    ),
    Fault(
        "the residual is the smallest",
        MEASURE,
        "pairs.residuals.max()",
        "pairs.residuals.min()",
        (COLUMN,),
    ),
    Fault(
        "the tolerance is ignored",
        STATE,
        "tol=record.tolerance",
        "tol=0.05",
        (f"{DECIDES}the_tolerance_is_the_records",),
    ),
    Fault(
        "the divergence factor is ignored",
        LOOP,
        "self.record.divergence_factor *",
        "100.0 *",
        (f"{DECIDES}a_run_diverges_where_its_loss_passes_the_records_factor",),
    ),
    Fault(
        "the overlap is that of G with itself",
        RUN_ENERGY,
        "subspace_overlap(dominant.eigenvectors, ggn.eigenvectors)",
        "subspace_overlap(ggn.eigenvectors, ggn.eigenvectors)",
        (f"{ENERGY_ROWS}the_overlap_is_that_of_the_eigenspaces_of_hessian_and_ggn",),
    ),
)

TASKS = (
    Fault(
        "words without positions",
        TRANSFORMER,
        "self.embedding(rows) + self.positions[: rows.shape[1]]",
        "self.embedding(rows)",
        (f"{REFERENCE}transformer",),
    ),
    Fault(
        "the mean over words takes padding in",
        TRANSFORMER,
        "weights = mask.unsqueeze(-1).to(hidden.dtype)",
        "weights = torch.ones_like(mask).unsqueeze(-1).to(hidden.dtype)",
        (f"{REFERENCE}transformer",),
    ),
    Fault(
        "words attend to padding",
        TRANSFORMER,
        "src_key_padding_mask=~mask",
        "src_key_padding_mask=None",
        (f"{REFERENCE}transformer",),
    ),
    Fault(
        "characters see those that follow",
        GPT,
        "src_mask=self.future[:length, :length]",
        "src_mask=None",
        (f"{REFERENCE}gpt", "tests/tasks/test_models.py::test_no_character_sees_one_that_follows"),
    ),
    Fault(
        "patches without positions",
        VIT,
        ".transpose(1, 2) + self.positions",
        ".transpose(1, 2)",
        (f"{REFERENCE}vit",),
    ),
    Fault(
        "a residual block without its skip",
        RESNET,
        "self.skip(x) + self.residual(x)",
        "self.residual(x)",
        (f"{REFERENCE}resnet",),
    ),
    Fault(
        "a character is its own target",
        f"{PACKAGE}/tasks/sources/shakespeare.py",
        "tokens[1:].reshape",
        "tokens[:-1].reshape",
        ("tests/tasks/sources/test_shakespeare.py::test_targets_are_the_characters_that_follow",),
    ),
    Fault(
        "a k of more than the parameters is planned",
        f"{PACKAGE}/model_sizes.py",
        "setting.k > counts[key]",
        "setting.k > 10 * counts[key]",
        ("tests/test_model_sizes.py::test_k_may_be_as_large_as_the_model",),
    ),
    Fault(
        "squared error is a mean over classes",
        LOSSES,
        ".square().sum(dim=-1).mean()",
        ".square().mean(dim=-1).mean()",
        ("tests/tasks/test_losses.py::test_mse_is_summed_over_classes_and_averaged_over_samples",),
    ),
    Fault(
        "cross-entropy is a sum over samples",
        LOSSES,
        "targets.flatten())",
        'targets.flatten(), reduction="sum")',
        ("tests/tasks/test_losses.py::test_cross_entropy_is_the_mean_of_minus_log_probabilities",),
    ),
    Fault(
        "a model built from a seed of its own",
        f"{PACKAGE}/tasks/models/__init__.py",
        "torch.default_generator.manual_seed(seed)",
        "torch.default_generator.manual_seed(0)",
        (
            "tests/tasks/test_models.py"
            "::test_a_seed_decides_the_parameters_and_nothing_else_is_touched",
        ),
    ),
    Fault(
        "inputs are not centred",
        DATA,
        "values = (values - mean) / std",
        "values = values / std",
        ("tests/tasks/test_data.py::test_gray_images_are_normalised",),
    ),
    Fault(
        "the test samples are training samples",
        DATA,
        '_inputs(name, entry, arrays, "test", device, dtype)',
        '_inputs(name, entry, arrays, "train", device, dtype)[: entry.num_test]',
        ("tests/tasks/test_data.py::test_gray_images_are_normalised",),
    ),
    Fault(
        "a subset is the last samples",
        DATA,
        "select(self.train_inputs, slice(n))",
        "select(self.train_inputs, slice(-n, None))",
        ("tests/tasks/test_data.py::test_a_subset_is_the_first_samples",),
    ),
    Fault(
        "a wrong scale is accepted",
        DATA,
        "        _check_scale(name, entry, values)\n",
        "        pass\n",
        ("tests/tasks/test_entries.py::test_numbers_in_another_unit_than_the_data_are_refused",),
    ),
)

TRAINING = (
    Fault(
        "every seed shuffles alike",
        BATCHES,
        "manual_seed(self.seed + epoch)",
        "manual_seed(epoch)",
        ("tests/training/test_batches.py::test_a_batch_depends_on_seed_and_step_alone",),
    ),
    Fault(
        "every epoch shuffles alike",
        BATCHES,
        "manual_seed(self.seed + epoch)",
        "manual_seed(self.seed)",
        ("tests/training/test_batches.py::test_epochs_are_shuffled_differently",),
    ),
    Fault(
        "all streams of a seed are one",
        f"{PACKAGE}/training/randomness.py",
        'f"{seed}/{stream}"',
        'f"{seed}"',
        (
            "tests/training/test_batches.py"
            "::test_streams_of_a_seed_differ_and_are_the_same_everywhere",
        ),
    ),
    Fault(
        "the energy's probes ignore the seed",
        RUN_ENERGY,
        'seed = stream_seed(record.seed, "energy")',
        "seed = 0",
        (f"{DECIDES}the_seed_decides_the_energys_probes",),
    ),
    Fault(
        "the bulk norm is what the dominant norm leaves",
        MEASURE,
        "math.sqrt(max(1.0 - alignment**2, 0.0)) * norm",
        "(1.0 - alignment) * norm",
        (COLUMN,),
    ),
    Fault(
        "the dominant norm is not scaled by the gradient's",
        MEASURE,
        '"dominant_gradient_norm": alignment * norm',
        '"dominant_gradient_norm": alignment',
        (COLUMN,),
    ),
    Fault(
        "orthogonality is taken for granted",
        MEASURE,
        '"orthogonality": orthogonality(subspace.basis)',
        '"orthogonality": 0.0',
        (f"{RECORDED}orthogonality_is_that_of_the_basis",),
    ),
    Fault(
        "every solve has converged",
        MEASURE,
        '"eigen_converged": int(pairs.converged)',
        '"eigen_converged": 1',
        ("tests/training/test_alarms.py::test_a_planted_fault_is_recorded_or_ends_the_run",),
    ),
    Fault(
        "the estimated error is a third of it",
        MEASURE,
        '"subspace_error": pairs.error_estimate',
        '"subspace_error": pairs.error_estimate / 3',
        (f"{RECORDED}the_estimated_error_is_within_a_factor_of_the_true_one",),
    ),
    Fault(
        "the recorded eigenvalues are those of another number of samples",
        STATE,
        "dataset.train_subset(record.hessian_samples)",
        "dataset.train_subset(dataset.num_train)",
        (f"{RECORDED}eigenvalues_are_those_of_the_dense_hessian",),
    ),
    Fault(
        "the moving average counts records for steps",
        LOOP,
        "decay **= (progress.step - self.start.step) % rhythm or rhythm",
        "pass",
        (COLUMN,),
    ),
    Fault(
        "the first alignment above the threshold ends the prefix",
        LOOP,
        'self.ends(row["alignment_ema"])',
        'self.ends(row["alignment"])',
        ("tests/training/test_train.py::test_the_switch_is_the_first_record_whose_average_passes",),
    ),
    Fault(
        "a run averages the record of its switch again",
        LOOP,
        "if progress.step == self.start.step:",
        "if False:",
        (f"{DECIDES}a_run_goes_on_from_the_average_of_its_prefix",),
    ),
    Fault(
        "measuring refreshes what an interval projects on",
        TRAIN,
        "fixed_interval = isinstance(record.refresh, int)",
        "fixed_interval = False",
        (f"{DECIDES}recording_changes_no_step_of_an_interval",),
    ),
    Fault(
        "a step beyond the tolerance sounds no alarm",
        LOOP,
        "tolerance = self.record.tolerance",
        "tolerance = 1.0",
        (
            "tests/training/test_alarms.py"
            "::test_the_records_tolerance_decides_which_steps_are_counted",
        ),
    ),
    Fault(
        "products are not counted",
        LOOP,
        'row["num_matvecs"] = tracking + progress.update_matvecs',
        'row["num_matvecs"] = len(progress.trajectory.rows)',
        (COLUMN,),
    ),
    Fault(
        "the test accuracy is that of another class",
        STATE,
        "outputs.argmax(dim=-1) == targets",
        "outputs.argmin(dim=-1) == targets",
        (COLUMN,),
    ),
    Fault(
        "a run keeps the learning rate of its prefix",
        TRAIN,
        "learning_rate=settings.learning_rate",
        "learning_rate=0.02",
        (f"{DECIDES}a_step_weighs_the_parts_of_the_gradient_as_the_record_says",),
    ),
    Fault(
        "Dom-SGD trains as SGD does",
        TRAIN,
        "bulk_weight=record.bulk_weight",
        "bulk_weight=1.0",
        (f"{DECIDES}a_step_weighs_the_parts_of_the_gradient_as_the_record_says",),
    ),
    Fault(
        "the weight of the Dominant part is that of the Bulk part",
        TRAIN,
        "dom_weight=record.dom_weight",
        "dom_weight=record.bulk_weight",
        (f"{DECIDES}a_step_weighs_the_parts_of_the_gradient_as_the_record_says",),
    ),
    Fault(
        "the energy is that in the GGN's eigenspace",
        RUN_ENERGY,
        "curvature_energy(operator, dominant.eigenvectors,",
        "curvature_energy(operator, ggn.eigenvectors,",
        (f"{ENERGY_ROWS}rayleigh_quotients", f"{ENERGY_ROWS}shares_norms_and_traces"),
    ),
    Fault(
        "the functional Hessian is the GGN",
        RUN_ENERGY,
        '"functional_hessian": FunctionalHessianOperator(*data)',
        '"functional_hessian": GGNOperator(*data)',
        (f"{ENERGY_ROWS}rayleigh_quotients",),
    ),
)

CURVATURE = (
    Fault(
        "F averages the outputs",
        OPERATORS,
        "return self._second_derivative(real_tensors(outputs), scaled(scale, derivatives))",
        "return self._second_derivative(real_tensors(outputs), scaled(scale / 3, derivatives))",
        ("tests/curvature/test_operators.py::test_functional_hessian[mlp-mse]",),
    ),
    Fault(
        "G leaves the loss's curvature out",
        OPERATORS,
        "curvature_v = gradient(loss_gradient, leaves, jacobian_v)",
        "curvature_v = jacobian_v",
        ("tests/curvature/test_operators.py::test_ggn[mlp-cross_entropy]",),
    ),
    Fault(
        "a search keeps nothing of the residuals that are pending",
        "src/sharpflat/curvature/krylov.py",
        "torch.cat([inside, rest])",
        "torch.cat([0 * inside, rest])",
        ("tests/curvature/test_rising.py::test_refresh_never_claims_what_it_missed",),
    ),
    Fault(
        "a sample's matrix is not corrected",
        "src/sharpflat/curvature/sampling.py",
        "return self._matrix.matmat(V) + self.correction @ along.to(V) + self.block @ inside",
        "return self._matrix.matmat(V)",
        ("tests/curvature/test_sampling.py::test_corrected_matrix",),
    ),
    Fault(
        "samples weigh alike whatever their probability",
        "src/sharpflat/curvature/sampling.py",
        "weights=1 / (len(sizes) * probabilities[indices])",
        "weights=torch.full((len(indices),), 1 / len(indices), dtype=torch.float64)",
        ("tests/curvature/test_sampling.py::test_draws_are_of_the_count_unbiased_and_seeded",),
    ),
    Fault(
        "a sample is drawn whatever the seed",
        "src/sharpflat/curvature/tracking_sample.py",
        "self._rhythm.size, seed=seed)",
        "self._rhythm.size, seed=0)",
        ("tests/curvature/test_sampled_tracking.py::test_seeds_draw_other_samples",),
    ),
    Fault(
        "what rose from outside is never noticed",
        "src/sharpflat/curvature/tracked.py",
        "return bool((1 - inside**2 <= JUMP**2).all())",
        "return True",
        ("tests/curvature/test_rising.py::test_what_rose_makes_the_next_checks_search",),
    ),
    Fault(
        "checks come no more rarely where they find nothing",
        "src/sharpflat/curvature/schedule.py",
        "interval = self.check_interval * 2 if longer",
        "interval = self.check_interval if longer",
        ("tests/curvature/test_schedule.py::test_checks_come_half_as_often_until_one_surprises",),
    ),
    Fault(
        "a copy of a subspace does not see what changes beside the parameters",
        SUBSPACE,
        "if self._last_theta is not None:",
        "if False:",
        (
            "tests/curvature/test_changed_subspace.py::test_a_copy_sees_what_changes_after_it_was_made",
        ),
    ),
    Fault(
        "reading batches advances a sampler's generator",
        "src/sharpflat/curvature/batches.py",
        'getattr(batch_sampler, "sampler", None),',
        "None,",
        (f"{READ}random_numbers_of_others_are_left_alone",),
    ),
    Fault(
        "what a dataset holds is not looked at",
        "src/sharpflat/curvature/recorder.py",
        "data.held if isinstance(data, Batches) else {}",
        "{}",
        (f"{READ}what_a_dataset_holds_is_looked_at",),
    ),
    Fault(
        "features of several lengths are not compared",
        "src/sharpflat/curvature/fingerprint.py",
        "return varies and tensor[0].numel() <= MOST_COUNTED",
        "return False",
        ("tests/curvature/test_fingerprint.py::test_noise_in_samples_of_several_lengths",),
    ),
    Fault(
        "a reentrant checkpoint is let through",
        "src/sharpflat/curvature/mean_probe.py",
        "refuse_reentrant_checkpoints(tensors_in(outputs))",
        "tensors_in(outputs)",
        ("tests/curvature/test_checks.py::test_recomputed_activations",),
    ),
    Fault(
        "a function of the model that is differentiable once is let through",
        "src/sharpflat/curvature/mean_probe.py",
        "refuse_once_differentiable(tensors_in(outputs))",
        "tensors_in(outputs)",
        (f"{DERIVATIVES}refuses_a_function_that_hides_its_second_derivative",),
    ),
    Fault(
        "a function of the loss that is differentiable once is let through",
        "src/sharpflat/curvature/mean_probe.py",
        "refuse_once_differentiable(tensors_in(value))",
        "tensors_in(value)",
        (f"{DERIVATIVES}refuses_a_function_that_hides_its_second_derivative",),
    ),
    Fault(
        "hooks on tensors are let through",
        "src/sharpflat/curvature/hooks.py",
        "if function is Tensor.register_hook:",
        "if function is None:",
        (f"{DERIVATIVES}refuses_hooks_on_tensors",),
    ),
    Fault(
        "a model cannot differentiate while it is probed",
        "src/sharpflat/curvature/mean_probe.py",
        "return tensor.detach()  # the tensor itself would hold its own graph, for ever",
        "return None",
        (f"{DERIVATIVES}a_model_that_differentiates",),
    ),
    Fault(
        "the precision that a loss computes in is not looked at",
        "src/sharpflat/curvature/mean_probe.py",
        "precisions |= of_loss - {tensor.dtype for tensor in tensors_in(self._targets)}",
        "",
        ("tests/curvature/test_half_precision.py::test_refuses_half_precision_inside",),
    ),
    Fault(
        "globals that forward names are not looked at",
        "src/sharpflat/curvature/held.py",
        'left = [] if _is_torchs(kind) else ["forward"]',
        "left: list[str] = []",
        ("tests/curvature/test_changed_state.py::test_products_follow_what_is_read",),
    ),
    Fault(
        "an alignment is its square",
        SUBSPACE,
        "torch.linalg.vector_norm(basis.T @ v).item() / norm",
        "(torch.linalg.vector_norm(basis.T @ v).item() / norm) ** 2",
        (COLUMN,),
    ),
    Fault(
        "the projection is onto the Bulk",
        SUBSPACE,
        "return (basis @ (basis.T @ v.to(basis.dtype))).to(v.dtype)",
        "return v - (basis @ (basis.T @ v.to(basis.dtype))).to(v.dtype)",
        ("tests/test_optim.py::test_step",),
    ),
    Fault(
        "an interval refreshes at every step",
        TRACKER,
        "self._schedule.updates % _interval(self.refresh_policy) == 0",
        "True",
        ("tests/curvature/test_subspace.py::test_interval",),
    ),
    Fault(
        "the tracker ignores the seed",
        TRACKER,
        "seed=self.seed + self._checks,\n            search",
        "seed=0,\n            search",
        (f"{DECIDES}the_seed_decides_the_eigensolvers_vectors",),
    ),
    Fault(
        "the energy inside is that of ``Vᵀ M V``",
        ENERGY,
        "float(norms(products).square().sum())",
        "float(inner(basis, products).square().sum())",
        (f"{ENERGY_ROWS}shares_norms_and_traces",),
    ),
    Fault(
        "the energy outside counts the inside too",
        ENERGY,
        "probes = probes - combine(basis, inner(basis, probes))",
        "pass",
        (f"{ENERGY_ROWS}shares_norms_and_traces",),
    ),
    Fault(
        "a standard error is a standard deviation",
        ENERGY,
        "float(samples.std()) / math.sqrt(len(samples))",
        "float(samples.std())",
        (f"{ENERGY_ROWS}shares_norms_and_traces",),
    ),
    Fault(
        "an overlap is its root",
        ENERGY,
        "float(cosines.square().sum()) / first.shape[1]",
        "(float(cosines.square().sum()) / first.shape[1]) ** 0.5",
        (f"{ENERGY_ROWS}the_overlap_is_that_of_the_eigenspaces_of_hessian_and_ggn",),
    ),
)

OPTIMIZER = (
    Fault(
        "the weights of the two parts are swapped",
        OPTIM,
        "self.dom_weight * dominant + self.bulk_weight * (update - dominant)",
        "self.bulk_weight * dominant + self.dom_weight * (update - dominant)",
        ("tests/test_optim.py::test_step",),
    ),
    Fault(
        "a step leaves the subspace where it was",
        OPTIM,
        "        self.subspace.update()\n",
        "        self.subspace.basis\n",
        ("tests/test_optim.py::test_the_projection_is_that_of_the_point_before_the_step",),
    ),
    Fault(
        "the path to Bulk-SGD runs backwards",
        METHODS,
        '"sgd_to_bulk": lambda alpha: (1.0 - alpha, 1.0)',
        '"sgd_to_bulk": lambda alpha: (alpha, 1.0)',
        ("tests/test_methods.py::test_weights_follow_the_definitions",),
    ),
    Fault(
        "the convex path halves every step",
        METHODS,
        "(2.0 - 2.0 * alpha, 2.0 * alpha)",
        "(1.0 - alpha, alpha)",
        ("tests/test_methods.py::test_weights_follow_the_definitions",),
    ),
)

ANALYSIS = (
    Fault(
        "SGD's loss is reached while a loss is above it",
        STATISTICS,
        "np.flatnonzero(losses <= target)",
        "np.flatnonzero(losses >= target)",
        (
            "tests/analysis/test_statistics.py"
            "::test_steps_to_sgd_are_counted_within_the_cell_and_the_seed",
        ),
    ),
    Fault(
        "the slope is that of the loss, not of its logarithm",
        STATISTICS,
        "np.log(losses)",
        "losses",
        ("tests/analysis/test_statistics.py::test_endings_are_those_of_the_last_record",),
    ),
    Fault(
        "a step is stable up to 1 / λ_1",
        STABILITY,
        "dominant = learning_rate * dom_weight * eigenvalue_dominant < 2",
        "dominant = learning_rate * dom_weight * eigenvalue_dominant < 1",
        ("tests/analysis/test_stability.py::test_the_prediction_is_what_a_quadratic_does",),
    ),
    Fault(
        "the Bulk's edge is that of λ_k",
        STABILITY,
        "int(row['k']) + 1",
        "int(row['k'])",
        ("tests/analysis/test_stability.py::test_the_bulk_eigenvalue_is_the_one_after_k",),
    ),
    Fault(
        "a 95 % interval leaves 10 % out",
        INTERVALS,
        "(1 + confidence) / 2",
        "confidence",
        ("tests/analysis/test_intervals.py::test_three_values_against_the_table_of_students_t",),
    ),
    Fault(
        "a geometric mean is arithmetic",
        INTERVALS,
        "np.exp(np.log(np.asarray(values, dtype=np.float64)).mean())",
        "np.asarray(values, dtype=np.float64).mean()",
        ("tests/analysis/test_intervals.py::test_geometric_statistics_are_those_of_the_logs",),
    ),
    Fault(
        "a diverged SGD counts as aligned",
        f"{CLAIMS}/alignment.py",
        ".fillna(-math.inf)",
        ".fillna(1.0)",
        ("tests/analysis/test_claims_training.py::test_a_diverged_sgd_counts_as_not_aligned",),
    ),
    Fault(
        "acceleration is SGD's steps over Bulk-SGD's",
        f"{CLAIMS}/acceleration.py",
        "return fewest[0] / fewest[1]",
        "return fewest[1] / fewest[0]",
        ("tests/analysis/test_claims_training.py::test_acceleration",),
    ),
    Fault(
        "a run that a figure names twice is compared twice",
        f"{CLAIMS}/interpolation.py",
        "str(_weights(name))",
        "name",
        ("tests/analysis/test_claims_training.py::test_a_run_with_several_names_is_compared_once",),
    ),
    Fault(
        "instability is where SGD is unstable and Bulk-SGD is not",
        f"{CLAIMS}/instability.py",
        '(wide["sgd"] - wide["bulk_sgd"])',
        '(wide["bulk_sgd"] - wide["sgd"])',
        (
            "tests/analysis/test_claims_ablations.py"
            "::test_instability_holds_and_fails_by_edge_and_cells",
        ),
    ),
)

INFERENCE = (
    Fault(
        "Holm's correction is dropped",
        f"{PACKAGE}/analysis/inference.py",
        "(len(p_values) - rank) * p_values[i]",
        "p_values[i]",
        ("tests/analysis/test_inference.py::test_holms_correction_against_its_textbook_example",),
    ),
    Fault(
        "excursions are ignored",
        f"{PACKAGE}/stability.py",
        "if lasting or after[-1]",
        "if after[-1]",
        (
            "tests/test_stability.py::test_the_class_follows_from_the_losses",
            "tests/test_stability.py::test_a_run_that_ended_early_has_diverged_whatever_it_recorded",
            "tests/test_stability.py::test_records_without_a_loss_count_for_nothing",
            "tests/test_stability.py::test_a_short_and_high_excursion_counts_however_long_the_run",
            "tests/test_stability.py::test_too_few_losses_are_refused",
            "tests/test_stability.py::test_it_finds_the_edge_of_gradient_descent_on_a_quadratic",
            "tests/test_stability.py::test_real_losses_have_the_class_that_their_curves_show",
        ),
    ),
)

KEPT = "tests/training/test_snapshot_steps.py::test_"
WHOLE = "tests/analysis/test_finished.py::test_a_path_of_which_"

STALE = (
    Fault(
        "a run that diverged is taken to have kept its last parameters",
        f"{PACKAGE}/snapshots.py",
        'reached if summary["status"] == "diverged" else reached | {last}',
        "reached | {last}",
        (f"{KEPT}they_follow_from_the_record_and_the_summary",),
    ),
    Fault(
        "a result that kept other parameters than asked for stays",
        f"{PACKAGE}/training/train.py",
        "    same = kept == kept_steps(record, json.loads(summary.read_text()), count)\n",
        "    same = True\n",
        (f"{KEPT}a_result_that_kept_others_is_made_again",),
    ),
    Fault(
        "a run that went on with other points is not made again",
        f"{PACKAGE}/training/train.py",
        'kept = f"{keeping.snapshots} snapshots"',
        'kept = ""',
        (f"{KEPT}a_result_that_kept_others_is_made_again",),
    ),
    Fault(
        "an energy at other points counts as today's",
        f"{PACKAGE}/status.py",
        '        "steps": kept_steps(record, summary, points),\n',
        "",
        (
            "tests/test_status.py::"
            "test_an_energy_of_other_code_probes_points_or_trajectory_is_stale",
        ),
    ),
    Fault(
        "a path without a whole seed costs every seed",
        f"{PACKAGE}/analysis/finished.py",
        "if path_of(one) in kept or not path_of(one)[2]",
        "if True",
        (f"{WHOLE}no_seed_is_whole_is_left_out_and_said",),
    ),
    Fault(
        "a path is left out for one seed that it lacks",
        f"{PACKAGE}/analysis/finished.py",
        "    kept = {along for along, _ in whole}",
        "    kept = {along for along, _ in whole} - {path_of(one) for one in missing}",
        (f"{WHOLE}one_seed_is_whole_costs_the_other_seeds",),
    ),
)

FAULTS = (
    *SURVIVED_ONCE,
    *TASKS,
    *TRAINING,
    *CURVATURE,
    *OPTIMIZER,
    *ANALYSIS,
    *INFERENCE,
    *STALE,
)
