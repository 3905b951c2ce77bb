import pytest

from catid2_jax.data.catalog import product_text
from catid2_jax.encoders.text import document_texts
from catid2_jax.errors import InputError
from catid2_jax.types import Product

MUG = Product("m", " Mug ", "Blue.", ("Home", "Cups"), {"brand": "Acme", "sizes": [1, None, "L"]})
PEN = Product("p", "Pen", "", ("Office",), {"brand": None, "stock": 7})


def test_by_default_it_is_the_text_of_the_product():
    for with_categories in (True, False):
        fields = ("title", "text", "categories")[: 2 + with_categories]
        texts, cut = document_texts([MUG, PEN], fields)
        assert list(texts) == [product_text(product, with_categories) for product in (MUG, PEN)]
        assert cut == 0


def test_fields_come_in_the_order_asked_for_and_further_ones_with_their_names():
    fields = ("categories", "brand", "title", "sizes", "stock")
    texts, _ = document_texts([MUG, PEN], fields)
    assert list(texts) == [
        "Home > Cups. brand: Acme. Mug. sizes: 1, L",
        "Office. Pen. stock: 7",
    ]


def test_each_field_is_cut_by_itself_and_counted():
    long = Product("l", "Tea pot", "x" * 1000, ("Home", "Cups"), {"brand": "12345"})
    texts, cut = document_texts([long, PEN], ("title", "text", "brand", "categories"), 5)
    assert list(texts) == ["Tea p. xxxxx. brand: 12345. Home ", "Pen. Offic"]
    assert cut == 4


def test_a_field_that_no_product_has():
    message = "found 'brnd', which no product has, expected some of title, text, categories, brand"
    with pytest.raises(InputError, match=message):
        document_texts([MUG, PEN], ("title", "brnd"))


def test_a_field_that_is_no_text():
    bad = Product("b", "Pen", "", ("Office",), {"size": {"cm": 3}})
    with pytest.raises(InputError, match=r"product 'b': found size \{'cm': 3\}, expected text, a"):
        document_texts([bad], ("title", "size"))
