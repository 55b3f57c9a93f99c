"""The attributes of each kind, most telling first."""

from typing import Final

from deltaserve.offset_models.targets.kinds.attribute import Attribute
from deltaserve.offset_models.targets.kinds.character import CHARACTER
from deltaserve.offset_models.targets.kinds.event import EVENT
from deltaserve.offset_models.targets.kinds.organisation import ORGANISATION
from deltaserve.offset_models.targets.kinds.person import PERSON
from deltaserve.offset_models.targets.kinds.place import PLACE
from deltaserve.offset_models.targets.kinds.product import PRODUCT
from deltaserve.offset_models.targets.kinds.topic import TOPIC
from deltaserve.offset_models.targets.kinds.work import WORK
from deltaserve.offset_models.targets.subject import Kind

ATTRIBUTES: Final[dict[Kind, tuple[Attribute, ...]]] = {
    "person": PERSON,
    "character": CHARACTER,
    "work": WORK,
    "organisation": ORGANISATION,
    "product": PRODUCT,
    "place": PLACE,
    "event": EVENT,
    "topic": TOPIC,
}
OTHER: Final = Attribute("other", ())  # of facts that no attribute of a kind asked for: those of documents


def attribute_named(kind: Kind, name: str) -> Attribute:
    """The kind's attribute of that name; `OTHER` where there is none."""
    return next((attribute for attribute in ATTRIBUTES[kind] if attribute.name == name), OTHER)
