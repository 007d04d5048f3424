"""The model with which a training begins, or goes on."""

from xpool.clip import freeze_lower_layers
from xpool.config import OptimConfig
from xpool.convert import load_reference_checkpoint
from xpool.model import XPool, build_model
from xpool_platform.checkpoint import load_weights
from xpool_platform.config import ExperimentConfig
from xpool_platform.errors import UserError
from xpool_platform.locations import is_file, local_file
from xpool_platform.pretrained_weights import with_local_weights


def let_learn(model: XPool, config: OptimConfig) -> None:
    """Freeze what does not learn. Raises UserError if there are not so many layers to freeze."""
    if config.clip_lr == 0:
        model.clip.requires_grad_(False)
    elif config.frozen_layers:
        try:
            freeze_lower_layers(model.clip, config.frozen_layers)
        except ValueError as error:
            raise UserError(f"{error}; set --optim.frozen-layers to fewer") from error


def first_model(config: ExperimentConfig, resume_from: str = "") -> XPool:
    """The model with the weights of the checkpoint at which training goes on, else of init_from.

    Raises UserError if they are of another model.
    """
    source = resume_from or config.init_from
    if not source:
        with with_local_weights(config.model) as local:
            return build_model(local, config.loss)
    model = build_model(config.model, config.loss, load_pretrained=False)
    try:
        if is_file(source):
            with local_file(source) as path:
                weights = load_reference_checkpoint(path, config.model).state_dict()
        else:
            weights = load_weights(source)
        model.load_state_dict(weights)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"the weights of {source} are not those of {config.model.clip_name} under "
            f"{config.model.pooling} pooling ({reason}); set --model.* to what they were made with"
        ) from error
    return model
