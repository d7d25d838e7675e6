"""List and show the pretrained networks that come with the package."""

import json

from ..networks.object_prior import model_names, pretrained_prior, read_model_card


def list_models() -> None:
    """List the pretrained networks that come with ptychoflow.

    Reads their model cards. Makes text on standard output: name, number of weights and description of each.

    Example:
        ptychoflow models list
    """
    for name in model_names():
        card = read_model_card(name)
        print(f"{name}  {card['parameters']} weights  {card['description']}")


def show_model(name: str) -> None:
    """Show the model card of a pretrained network, after a check of its weights.

    Reads the card and the weights. Makes text on standard output, JSON: network, checksum, data, how the weights were
    made, licence, limits.

    Args:
        name: of the network, as ``models list`` prints it.

    Raises:
        FileNotFoundError: if the package has no network of this name.
        ValueError: if the weights were altered.

    Example:
        ptychoflow models show object_prior
    """
    card = read_model_card(name)
    pretrained_prior(name)
    print(json.dumps(card, indent=2))
