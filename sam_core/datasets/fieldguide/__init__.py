"""`fieldguide`: a drawn field guide of ten species that differ in small parts, with exact masks; no download."""

from sam_core.datasets.fieldguide.guide import (
    DEFAULT_HABITAT_BIAS,
    contact_sheet,
    habitats_of,
    load_fieldguide,
    planned_fieldguide,
)
from sam_core.datasets.fieldguide.species import HABITATS, MASK_PARTS, SPECIES

__all__ = [
    "DEFAULT_HABITAT_BIAS",
    "HABITATS",
    "MASK_PARTS",
    "SPECIES",
    "contact_sheet",
    "habitats_of",
    "load_fieldguide",
    "planned_fieldguide",
]
