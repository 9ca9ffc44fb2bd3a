"""The labeling config, which says what media Label Studio shows and which classes it offers."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from xml.etree import ElementTree as ET

from rlmba.annotators.matching import ClassNames
from rlmba.errors import AnnotatorError, DataError

__all__ = [
    "CANNOT_TELL_ALIAS",
    "CHOICES",
    "NEW_CLASS",
    "Column",
    "Control",
    "column",
    "extended",
    "same",
    "shown_value",
    "variables",
    "with_classes",
]

CANNOT_TELL_ALIAS = "rlmba:cannot-tell"
"""The choice in an annotation that means "cannot tell". No class may have this name."""

CHOICES = "label"
"""The name of the control with the classes."""

NEW_CLASS = "new_class"
"""The name of the field for a new class."""

_ABOUT = "about"
_MEDIA = "rlmba-media"
_VARIABLE = re.compile(r"\$(\w+)", flags=re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


class Column(NamedTuple):
    """A modality as Label Studio shows it.

    Parameters
    ----------
    key : str
        The key in a task's data, and the tag's name.
    tag : {"Image", "Audio", "Video", "Text"}
        The tag that shows it.
    title : str
        The modality's name.
    """

    key: str
    tag: str
    title: str


class Control(NamedTuple):
    """The control with the classes.

    Parameters
    ----------
    name : str
    to_name : str
        The name of the tag that it belongs to.
    choices : mapping of str to str
        By class, what an annotation contains if its choice is pressed. Classes that are missing here have
        choices of their own name.
    """

    name: str = CHOICES
    to_name: str = _ABOUT
    choices: Mapping[str, str] = {}


def column(modality: str, tag: str) -> Column:
    """The column of a modality, which is the same in every round.

    Label Studio's variables are ASCII words. A key is the modality's name if that equals the tag's ("image").
    Otherwise the tag's name is appended, and a checksum if characters were replaced.
    """
    kind = tag.lower()
    word = re.sub(r"\W", "_", modality, flags=re.ASCII)
    if word != modality:
        word = f"{word}_{zlib.crc32(modality.encode('utf-8', 'replace')):08x}"
    return Column(word if word == kind else f"{word}_{kind}", tag, modality)


def shown_value(name: str) -> str:
    """A name as it is displayed: an invisible character keeps "$x" from being read as a variable."""
    return name.replace("$", "$\N{WORD JOINER}")


def extended(
    config: str,
    columns: Iterable[Column],
    classes: Iterable[str],
    *,
    open_classes: bool,
    descriptions: Mapping[str, str] | None = None,
) -> str:
    """Add whatever a batch needs to a labeling config, and leave the rest as it is.

    Parameters
    ----------
    config : str
        The project's present config, which people may have edited; empty if there is none.
    columns : iterable of Column
        What must be shown.
    classes : iterable of str
        Names of the classes to offer. Other classes in ``config`` stay.
    open_classes : bool
        Whether there must be a field for the name of a new class.
    descriptions : mapping of str to str, optional
        Descriptions of classes by name, which become the hints of choices that have none.

    Returns
    -------
    str
        XML. If nothing is missing, it is equivalent to ``config``.

    Raises
    ------
    AnnotatorError
        If ``config`` is not XML.
    DataError
        If a class name cannot be written in a labeling config.
    """
    root = _parsed(config)
    _show(root, columns)
    _choose(root, classes, open_classes)
    _describe(root, descriptions or {})
    return ET.tostring(root, encoding="unicode")


def with_classes(config: str, control: str, classes: Sequence[str]) -> tuple[str, Control]:
    """Add the classes that a control of people lacks to their labeling config, and nothing else.

    A choice offers the class that its alias or value means (:class:`rlmba.annotators.matching.ClassNames`).
    If a task's data contain the choices, nothing is added.

    Parameters
    ----------
    config : str
        The project's present config.
    control : str
        The name of a Choices control.
    classes : sequence of str
        Names of the classes to offer.

    Returns
    -------
    (str, Control)
        XML, and the control in it.

    Raises
    ------
    AnnotatorError
        If ``config`` is not XML, or has no Choices control of this name for whole tasks.
    DataError
        If a class name cannot be written in a labeling config.
    """
    root = _parsed(config)
    choices = _find_control(root, control)
    wanted = {name: _choice(name) for name in classes}
    names = ClassNames(classes, open=False)
    offered: dict[str, str] = {}
    for choice in choices.iter("Choice"):
        written = choice.get("alias") or choice.get("value") or ""
        name = names.find(written) if written else None
        if name is not None and (name == written or name not in offered):
            offered[name] = written
    if not choices.get("value", "").startswith("$"):
        choices.extend(choice for name, choice in wanted.items() if name not in offered)
    renamed = {name: written for name, written in offered.items() if written != name}
    to_name = choices.get("toName", "").split(",")[0].strip()
    return ET.tostring(root, encoding="unicode"), Control(control, to_name, renamed)


def variables(config: str) -> set[str]:
    """The keys that a task's data must have for a labeling config that :func:`extended` returned."""
    found = (
        _VARIABLE.fullmatch(element.get("value", ""))
        for element in ET.fromstring(config).iter()
        if element.get("name")
    )
    return {match[1] for match in found if match}


def same(one: str, other: str) -> bool:
    """Whether two labeling configs are the same XML."""
    if not one.strip():
        return False
    return ET.canonicalize(one) == ET.canonicalize(other)


def _parsed(config: str) -> ET.Element:
    try:
        parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
        return ET.fromstring(config.strip() or "<View/>", parser)
    except ET.ParseError as error:
        raise AnnotatorError(
            f"Label Studio: the project's labeling config is not XML ({error}); "
            "repair it in the project's settings, or set the annotator's option project to another one"
        ) from None


def _find_control(root: ET.Element, name: str) -> ET.Element:
    """The Choices control of this name.

    Raises
    ------
    AnnotatorError
        If it does not exist, or does not classify whole tasks.
    """
    every = [e for e in root.iter() if e.get("toName") is not None]
    found = next((e for e in every if e.get("name") == name), None)
    whole = [e for e in every if e.tag == "Choices" and not _of_regions(e)]
    if found in whole and found is not None:
        return found
    if found is None:
        got = f"none is called {name!r}"
    elif found.tag != "Choices":
        got = f"{name!r} is a control of type {found.tag}"
    else:
        got = f"{name!r} classifies regions (perRegion or perItem)"
    names = [e.get("name", "") for e in whole]
    advice = (
        f"set the annotator's option control to one of {names}"
        if names
        else "add one to the labeling config"
    )
    raise AnnotatorError(
        "Label Studio: expected a Choices control for whole tasks that has the name in the option control; "
        f"in the project's labeling config, {got}; {advice}"
    )


def _of_regions(control: ET.Element) -> bool:
    return any(control.get(key, "").lower() == "true" for key in ("perRegion", "perItem"))


def _show(root: ET.Element, columns: Iterable[Column]) -> None:
    """Add tags for what is not shown yet, side by side as far as there is room."""
    row = root.find(f".//View[@className='{_MEDIA}']")
    if row is None:
        style = "display:flex;flex-wrap:wrap;gap:1em;margin-bottom:1em"
        row = ET.Element("View", {"className": _MEDIA, "style": style})
        root.insert(0, row)
    values = {element.get("value") for element in root.iter()}
    for key, tag, title in columns:
        if f"${key}" in values:
            continue
        cell = ET.SubElement(row, "View", {"style": "flex:1 1 24em;min-width:0"})
        ET.SubElement(cell, "Header", {"value": _written(shown_value(title)), "size": "5"})
        element = ET.SubElement(cell, tag, {"name": key, "value": f"${key}"})
        if tag == "Image":
            element.set("zoomControl", "true")
        elif tag == "Video":
            element.set("height", "360")
        elif tag == "Text":
            element.set("valueType", "text")  # never the address of one
    if root.find(f".//*[@name='{_ABOUT}']") is None:
        about = {"name": _ABOUT, "value": f"${_ABOUT}", "valueType": "text"}
        root.insert(list(root).index(row) + 1 if row in list(root) else 0, _element("Text", about))


def _choose(root: ET.Element, classes: Iterable[str], open_classes: bool) -> None:
    """Add a button for each class and one for "cannot tell", and a field for new classes if they are open."""
    choices = root.find(f".//Choices[@name='{CHOICES}']")
    if choices is None:
        attributes = {"name": CHOICES, "toName": _ABOUT, "choice": "single", "showInline": "true"}
        choices = ET.SubElement(root, "Choices", attributes)
    there = {choice.get("alias") or choice.get("value") for choice in choices.iter("Choice")}
    classes = list(classes)
    last = [c for c in choices if c.get("alias") == CANNOT_TELL_ALIAS]
    place = list(choices).index(last[0]) if last else len(choices)
    for name in classes:
        choice = _choice(name)
        if name not in there:
            choices.insert(place, choice)
            place += 1
    if not last:
        text = "cannot tell" if "cannot tell" not in classes else "cannot tell (no label)"
        choices.append(_element("Choice", {"value": text, "alias": CANNOT_TELL_ALIAS}))
    field = root.find(f".//TextArea[@name='{NEW_CLASS}']")
    choices.set("required", "false" if open_classes else "true")
    if open_classes and field is None:
        ET.SubElement(
            root,
            "TextArea",
            {
                "name": NEW_CLASS,
                "toName": choices.get("toName", _ABOUT),
                "placeholder": "or the name of a new class",
                "maxSubmissions": "1",
                "editable": "true",
            },
        )


def _choice(name: str) -> ET.Element:
    """The choice of a class."""
    if name == CANNOT_TELL_ALIAS or not name.strip():
        raise DataError(
            f"class {name!r}: Label Studio cannot offer a class of this name; rename it"
        )
    choice = {"value": _written(shown_value(name))}
    if choice["value"] != name:
        choice["alias"] = _written(name)
    return _element("Choice", choice)


def _describe(root: ET.Element, descriptions: Mapping[str, str]) -> None:
    for choice in root.iterfind(f".//Choices[@name='{CHOICES}']//Choice"):
        name = choice.get("alias") or choice.get("value") or ""
        text = " ".join(_CONTROL.sub(" ", descriptions.get(name, "")).split())
        if text and not choice.get("hint"):
            choice.set("hint", shown_value(text))


def _element(tag: str, attributes: Mapping[str, str]) -> ET.Element:
    return ET.Element(tag, dict(attributes))


def _written(text: str) -> str:
    """The text, if XML can represent it."""
    if found := _CONTROL.search(text):
        raise DataError(
            f"{text!r}: expected a name without control characters, got {found.group()!r}; rename it"
        )
    return text
