"""Variables of a step, for one recipient."""

import pytest

from contracts.campaigns import Step
from scheduler.plan.rendering import Person, fill, render, variables

MARIA = Person(phone="5511987654321", name="Maria", custom_fields={"Empresa": "Acme", "Vazio": ""})


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("Olá {{nome}}", "Olá Maria"),
        ("Olá {{ NOME }}", "Olá Maria"),
        ("{{name}} {{Name}}", "Maria Maria"),
        ("{{telefone}}/{{phone}}", "5511987654321/5511987654321"),
        ("{{empresa}}", "Acme"),
        ("{{ EMPRESA | sua empresa }}", "Acme"),
        ("{{cargo|sua função}}", "sua função"),
        ("{{cargo | sua função }}!", "sua função!"),
        ("{{cargo}}!", "!"),
        ("{{vazio|nada}}", "nada"),
        ("sem variáveis", "sem variáveis"),
        ("", ""),
        ("{nome} {{}} {{|x}}", "{nome}  x"),
        ("{{nome}", "{{nome}"),
    ],
)
def test_variables_are_replaced(template: str, expected: str) -> None:
    assert fill(template, MARIA) == expected


def test_values_are_never_read_as_templates() -> None:
    sly = Person(phone="1", name="{{empresa}}", custom_fields={"empresa": "secret"})
    assert fill("{{nome}}", sly) == "{{empresa}}"


def test_a_caption_is_rendered_and_the_media_kept() -> None:
    step = Step(kind="image", content="Para {{nome}}", media_url="https://example.com/a.png", file_name="a.png")
    content = render(step, MARIA)
    assert (content.text, content.media_url, content.file_name) == ("Para Maria", "https://example.com/a.png", "a.png")


def test_template_parameters_become_components() -> None:
    step = Step(
        kind="template", template_name="promo", template_language="pt_BR", template_parameters=("{{nome}}", "{{x|y}}")
    )
    content = render(step, MARIA)
    assert content.template_components == (
        {"type": "body", "parameters": [{"type": "text", "text": "Maria"}, {"type": "text", "text": "y"}]},
    )
    assert (content.template_name, content.template_language) == ("promo", "pt_BR")


def test_the_names_of_variables_are_known() -> None:
    assert variables("{{ Nome }} e {{Empresa|x}}") == {"nome", "empresa"}
