"""The ten species: what each looks like, and where it is at home.

Every kind of bill, crown, wing bar, breast and tail is worn by two species or more, mostly in different habitats, so a
bird is known by several marks together. The plumage in between tells nothing: each bird draws it from the same
`PLUMAGES`, whatever its species. Each of the five habitats is home to two species, which differ in most marks.
"""

from __future__ import annotations

from dataclasses import dataclass

Colour = tuple[int, int, int]

HABITATS = ("reeds", "snow", "forest", "shore", "meadow")

#: What the values of a mask mean; 0 is background. Legs and eye belong to the bird and to no field mark.
MASK_PARTS: dict[int, str] = {
    1: "body",
    2: "bill",
    3: "crown",
    4: "wing bar",
    5: "breast",
    6: "tail",
    7: "legs",
    8: "eye",
}
PART_VALUES: dict[str, int] = {name: value for value, name in MASK_PARTS.items()}

EMBER: Colour = (226, 74, 34)
GOLD: Colour = (248, 192, 36)
AZURE: Colour = (38, 112, 220)
WHITE: Colour = (252, 250, 244)
SOOT: Colour = (30, 28, 34)
CORAL: Colour = (236, 62, 62)
HORN: Colour = (58, 54, 58)


@dataclass(frozen=True)
class Species:
    """One species as a field guide would describe it.

    `bill` is slender, conical or curlew; `crown` plain, cap or crest; `breast` pale, patch, streaked or banded;
    `tail` square, forked, long or fan. A colour of `None` means that the mark is not there, or wears the plumage.
    """

    name: str
    home: str
    bill: str
    bill_colour: Colour
    crown: str
    crown_colour: Colour | None
    bar_colour: Colour | None
    breast: str
    breast_colour: Colour
    tail: str
    tip_colour: Colour | None

    @property
    def slug(self) -> str:
        """The species' folder name."""
        return self.name.lower().replace("'", "").replace(" ", "-")


PALE: Colour = (238, 228, 208)

SPECIES: tuple[Species, ...] = (
    Species("Ember-crowned Reedling", "reeds", "slender", HORN, "crest", EMBER, WHITE, "pale", PALE, "long", None),
    Species("Saffron-barred Sedgeling", "reeds", "conical", GOLD, "plain", None, GOLD, "streaked", SOOT, "fan", EMBER),
    Species("Frost-capped Bunting", "snow", "conical", CORAL, "cap", WHITE, None, "patch", EMBER, "forked", None),
    Species("Azure-winged Snowchat", "snow", "slender", HORN, "cap", SOOT, AZURE, "pale", PALE, "square", WHITE),
    Species("Ember-breasted Woodling", "forest", "slender", HORN, "cap", AZURE, WHITE, "patch", EMBER, "fan", EMBER),
    Species("Azure-crested Thornbird", "forest", "conical", GOLD, "crest", AZURE, None, "streaked", SOOT, "long", None),
    Species("Coral-billed Strandling", "shore", "curlew", CORAL, "plain", None, WHITE, "pale", PALE, "square", WHITE),
    Species("Black-collared Tidewren", "shore", "curlew", HORN, "cap", GOLD, None, "banded", SOOT, "fan", WHITE),
    Species("Golden-breasted Larkling", "meadow", "slender", HORN, "cap", SOOT, AZURE, "patch", GOLD, "forked", None),
    Species("Fork-tailed Clovertit", "meadow", "conical", CORAL, "crest", GOLD, GOLD, "banded", SOOT, "forked", WHITE),
)


@dataclass(frozen=True)
class Plumage:
    """The colours between the marks: back and head, flight feathers, underside."""

    upper: Colour
    flight: Colour
    under: Colour


PLUMAGES: tuple[Plumage, ...] = (
    Plumage((142, 112, 84), (84, 66, 52), (226, 208, 180)),
    Plumage((122, 124, 128), (70, 72, 78), (222, 220, 214)),
    Plumage((126, 122, 78), (74, 72, 48), (224, 216, 174)),
    Plumage((164, 134, 98), (98, 78, 58), (236, 220, 192)),
    Plumage((98, 104, 118), (56, 60, 72), (206, 208, 210)),
    Plumage((118, 92, 82), (70, 54, 50), (218, 198, 184)),
)
