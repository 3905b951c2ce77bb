"""Wording of the synthetic catalogue: how its products are described and asked for."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T")

_OPENINGS = (
    "A {adjective} {noun} with {feature}.",
    "{brand} gave this {noun} {feature} and {other}.",
    "Thanks to {feature}, this {noun} is a favourite of our customers.",
    "The {series} line is known for {feature}.",
    "You will notice the {feature} at once, and the {other} too.",
    "{feature}, {other}: the {adjective} choice from {brand}.",
    "Our {adjective} {noun} comes with {other}.",
)
_BEFORE = ("cheap", "best", "good", "nice", "affordable", "top rated", "good quality", "buy", "new")
_AFTER = ("uk", "on sale", "next day delivery", "reviews", "deals", "under 50", "online", "gift")
_SPOKEN = (
    "i am looking for",
    "can you find me",
    "do you have any",
    "i need",
    "please show me",
    "where can i get",
    "my old one broke so i want",
)
_KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


class Draws:
    """Random numbers by SplitMix64 (Steele, Lea and Flood, 2014), equal under every Python."""

    __slots__ = ("_state",)

    def __init__(self, *key: int):
        self._state = 0
        for part in key:
            self._state = (self._state ^ part) & _MASK
            self._state = self.bits()

    def bits(self) -> int:
        """Returns 64 random bits."""
        self._state = value = (self._state + _GOLDEN) & _MASK
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
        return value ^ (value >> 31)

    def below(self, count: int) -> int:
        """Returns an integer from 0 to `count` - 1, all equally likely."""
        return (self.bits() * count) >> 64

    def skewed(self, count: int) -> int:
        """Returns an integer below `count`, small ones more often (a squared uniform number)."""
        uniform = self.bits() >> 32
        return (uniform * uniform * count) >> 64

    def chance(self, percent: int) -> bool:
        """Returns True in `percent` of the cases."""
        return self.below(100) < percent

    def choice(self, items: Sequence[T]) -> T:
        """Returns one of the items, all equally likely."""
        return items[self.below(len(items))]

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """Returns `count` different items (all, if there are fewer) in random order."""
        pool = list(items)
        for place in range(min(count, len(pool))):
            other = place + self.below(len(pool) - place)
            pool[place], pool[other] = pool[other], pool[place]
        return pool[:count]


class Attribute(NamedTuple):
    """A property of the products of a leaf."""

    phrase: str  # contains {value} and {noun}
    sentence: str  # contains {value}; may be empty
    values: tuple[str, ...]
    synonyms: dict[str, list[str]]  # value -> shoppers' words for it
    favourite: int  # index of the value that this leaf's products have most often


class Leaf(NamedTuple):
    """A leaf category and the words of its products and its shoppers."""

    path: tuple[str, ...]
    nouns: list[str]
    synonyms: list[str]  # shoppers' words for the nouns, in no product of the leaf
    uses: list[str]  # what shoppers want the product for
    features: list[str]
    attributes: dict[str, Attribute]  # field name -> attribute
    brands: list[str]
    series: dict[str, list[str]]  # brand -> its series
    adjectives: list[str]
    people: list[str]


class Item(NamedTuple):
    """A product before it is put into words: its leaf's number, its noun and its facts."""

    leaf: int
    noun: str
    facts: dict[str, str]


def _capitals(text: str) -> str:
    """Capitalizes all but short words, which are units ("ml") and prepositions ("of")."""
    words = text.split()
    return " ".join(word[0].upper() + word[1:] if len(word) > 2 else word for word in words)


def title(leaf: Leaf, item: Item, adjective: str, draws: Draws) -> str:
    """Writes a shop title: brand, series, adjective, some values and the noun in varying order."""
    brand, series, facts = item.facts["brand"], item.facts["series"], item.facts
    subject = item.noun
    for field in draws.sample(list(leaf.attributes), 1 + draws.below(3)):
        subject = leaf.attributes[field].phrase.format(value=facts[field], noun=subject)
    if draws.chance(50):
        subject = f"{adjective} {subject}"
    if draws.chance(50):
        code = draws.bits()
        series += f" {chr(65 + code % 26)}{chr(65 + code // 26 % 26)}{10 + code // 676 % 990}"
    order = draws.below(4)
    if order == 0:
        return f"{_capitals(subject)} by {brand}, {series}"
    if order == 1:
        return f"{brand} {_capitals(subject)} - {series}"
    return f"{brand} {series} {_capitals(subject)}"


def text(leaf: Leaf, item: Item, adjective: str, draws: Draws) -> str:
    """Lists all facts as `field: value` and adds one to three sentences."""
    facts = item.facts
    parts = ["; ".join(f"{field}: {value}" for field, value in facts.items()) + "."]
    feature, other = draws.sample(leaf.features, 2)
    parts.extend(
        opening.format(
            adjective=adjective,
            noun=item.noun,
            feature=feature,
            other=other,
            brand=facts["brand"],
            series=facts["series"],
        )
        for opening in draws.sample(_OPENINGS, 1 + draws.below(2))
    )
    field = draws.choice(list(leaf.attributes))
    parts.append(leaf.attributes[field].sentence.format(value=facts[field]))
    return " ".join(part[0].upper() + part[1:] for part in parts if part)


def typed(
    leaf: Leaf, item: Item, noun: str, fields: Sequence[str], lay_percent: int, draws: Draws
) -> str:
    """Puts facts of the item around the noun, `lay_percent` of them in shoppers' words."""
    text = noun
    for field in fields:
        value, phrase = item.facts[field], "{value} {noun}"
        if field in leaf.attributes:
            phrase = leaf.attributes[field].phrase
            if draws.chance(lay_percent):
                value = draws.choice(leaf.attributes[field].synonyms[value])
        text = phrase.format(value=value, noun=text)
    return text.lower()


def with_fillers(text: str, leaf: Leaf, draws: Draws) -> str:
    """Adds words that name no fact, such as "cheap" or "for my son"."""
    if draws.chance(20):
        text = f"{draws.choice(_BEFORE)} {text}"
    if draws.chance(15):
        text = f"{text} for {draws.choice(leaf.people)}"
    if draws.chance(15):
        text = f"{text} {draws.choice(_AFTER)}"
    return text.lower()


def spoken(text: str, leaf: Leaf, draws: Draws) -> str:
    """Rephrases the text as people speak."""
    text = f"{draws.choice(_SPOKEN)} {text}"
    return f"{text} for {draws.choice(leaf.people)}".lower() if draws.chance(40) else text


def misspelled(text: str, draws: Draws) -> str:
    """Mistypes, drops, doubles or swaps a letter in one or two of the longer words."""
    words = text.split()
    long = [place for place, word in enumerate(words) if len(word) > 2 and word.isalpha()]
    for place in draws.sample(long, 1 + draws.below(2)):
        word = words[place]
        at = 1 + draws.below(len(word) - 2)
        before, letter, after = word[:at], word[at], word[at + 1 :]
        row = next((row for row in _KEYBOARD if letter in row), letter)
        key = row.find(letter)
        neighbour = row[key - 1] if key else row[1:2]
        forms = (
            before + neighbour + after,
            before + after,
            before + letter + letter + after,
            before + after[0] + letter + after[1:],
        )
        words[place] = draws.choice([form for form in forms if form != word])
    return " ".join(words)
