"""Malformed configurations, and what the refusal of each must say."""

import math
from typing import Any


def task(**settings: Any) -> dict[str, Any]:
    """Changes of one task's settings."""
    return {"tasks": {"mnist_mlp": settings}}


def _figure(**request: Any) -> dict[str, Any]:
    return {"figures": {"dom_bulk": request}}


def _varied(**vary: list[Any]) -> dict[str, Any]:
    runs = {"tasks": ["mnist_mlp"], "losses": ["mse"], "methods": ["sgd"], "vary": vary}
    return {"figures": {"ablation_k": runs}}


REFUSED: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    # (overrides, fragments of the message: the key, the value, what is allowed)
    ({"sedes": [1]}, ("'sedes'", "allowed are tier", "seeds")),
    (task(lerning_rate=0.1), ("tasks.mnist_mlp", "'lerning_rate'", "learning_rate")),
    (task(learning_rate="1e-3"), ("learning_rate", "'1e-3'", "write 1.0e-3")),
    (task(learning_rate=0), ("learning_rate", "0", "minimum")),
    (task(learning_rate=None), ("learning_rate", "None", "number")),
    (task(learning_rate=math.nan), ("mnist_mlp.learning_rate = nan", "a finite number")),
    (_varied(learning_rate=[math.inf]), ("vary.learning_rate.0 = inf", "a finite number")),
    (task(k=0), ("tasks.mnist_mlp.k = 0", "minimum of 1")),
    (task(k=2.5), ("tasks.mnist_mlp.k = 2.5", "integer")),
    (task(refresh=0), ("tasks.mnist_mlp.refresh = 0", "minimum of 1")),
    (task(refresh="often"), ("tasks.mnist_mlp.refresh = 'often'",)),
    (task(tolerance=1), ("tasks.mnist_mlp.tolerance = 1", "maximum of 1")),
    (task(steps=0), ("tasks.mnist_mlp.steps = 0",)),
    (task(record_every=-5), ("record_every = -5",)),
    (task(batch_size=5000), ("batch_size = 5000", "exceeds its 4000 training samples")),
    (task(hessian_samples=4001), ("hessian_samples = 4001", "exceeds its 4000")),
    (task(hessian_samples="some"), ("hessian_samples = 'some'",)),
    (task(model="mpl"), ("no model 'mpl'", "cnn, gpt, mlp")),
    (task(dataset="mnits"), ("no data set 'mnits'", "mnist5k")),
    (task(sizes={"width": 32, "depht": 3}), ("'depht'", "'depth'")),
    (task(sizes={"width": 0, "depth": 3}), ("sizes.width = 0",)),
    (task(sizes={"width": "32", "depth": 3}), ("tasks.mnist_mlp", "width is '32'", "an integer")),
    (task(sizes={"activation": "tan"}), ("activation is 'tan'", "one of tanh, relu, gelu")),
    (
        task(losses={"hinge": {"learning_rate": 0.1}}) | _figure(losses=["hinge"]),
        ("no loss 'hinge'", "cross_entropy, mse"),
    ),
    ({"defaults": {"switch": {"alignment": 2}}}, ("switch.alignment = 2",)),
    ({"defaults": {"switch": {"ema_decay": 1.0}}}, ("switch.ema_decay = 1.0",)),
    (_figure(tasks=["mnist"]), ("figures.dom_bulk.tasks = 'mnist'", "mnist_mlp")),
    (_figure(losses=["hinge"]), ("'hinge'", "allowed are mse, cross_entropy")),
    (_figure(methods=["sgd", "adam"]), ("figures.dom_bulk.methods", "'adam'", "bulk_sgd")),
    (_figure(methods=[]), ("figures.dom_bulk.methods = []",)),
    (_varied(learning_rate=[0.1, "1e-3"]), ("figures.ablation_k.vary.learning_rate.1", "1.0e-3")),
    (_varied(width=[0]), ("figures.ablation_k.vary.width.0 = 0", "minimum of 1")),
    (_varied(switch_step=[2.5]), ("vary.switch_step.0 = 2.5", "integer")),
    (_varied(widht=[3]), ("ablation_k.vary.widht is unknown", "learning_rate", "width")),
    (_varied(lr=[0.1]), ("ablation_k.vary.lr is unknown", "learning_rate", "switch_step")),
    (_varied(k=[]), ("figures.ablation_k.vary.k = []",)),
    (_varied(), ("figures.ablation_k.vary = {}",)),
    (_varied(k=[1], batch_size=[2]), ("figures.ablation_k.vary", "a name of its own")),
    ({"figures": {"dom_bluk": {}}}, ("'dom_bluk'", "dom_bulk")),
    ({"benchmark": {"memory_task": "cnn"}}, ("benchmark.memory_task = 'cnn'", "mnist_mlp")),
    ({"benchmark": {"learning_rates": {"cnn": [0.1]}}}, ("benchmark.tasks = 'cnn'", "mnist_mlp")),
    ({"benchmark": {"accuracy": 1}}, ("benchmark.accuracy = 1",)),
    (
        {"benchmark": {"tracking_methods": ["adam"]}},
        ("tracking_methods: ", "'adam'", "sgd"),
    ),
    ({"seeds": []}, ("seeds = []",)),
    ({"seeds": [0, 0]}, ("seeds = [0, 0]", "non-unique")),
    ({"seeds": [-1]}, ("seeds.0 = -1", "minimum of 0")),
    ({"device": "gpu"}, ("device = 'gpu'", "cuda")),
    ({"threads": 0}, ("threads = 0",)),
    ({"data_mirror": 3}, ("data_mirror = 3",)),
    ({"alarms": {"orthogonality": "ignore"}}, ("alarms.orthogonality = 'ignore'", "raise")),
    ({"alarms": {"loudness": "raise"}}, ("'loudness'", "not_converged", "chunked_loss")),
    ({"tasks": {"../elsewhere": {}}}, ("tasks", "'../elsewhere'", "[a-z0-9_]")),
    ({"checkpoint_every": 0}, ("checkpoint_every = 0", "minimum of 1")),
]
