"Who cannot tell red from green, or blue from yellow, can still tell who acted: the colours of the front end, as simulated eyes see them."
import re
from itertools import combinations

import numpy as np
import pytest

from guided_opd.view import front_css

# Machado, Oliveira & Fernandes 2009, full severity, in linear RGB
EYES = dict(all_cones=np.eye(3), protanopia=[[.152286, 1.052583, -.204868], [.114503, .786281, .099216], [-.003882, -.048116, 1.051998]],
            deuteranopia=[[.367322, .860646, -.227968], [.280085, .672501, .047413], [-.011820, .042940, .968881]], tritanopia=[[1.255528, -.076749, -.178779], [-.078411, .930809, .147602], [.004733, .691367, .303900]])

def linear(colour):
    rgb = np.array([int(colour[i:i+2], 16)/255 for i in (1, 3, 5)])
    return np.where(rgb <= .04045, rgb/12.92, ((rgb + .055)/1.055)**2.4)

def oklab(colour, eyes):
    "Ottosson 2020; a distance of 2 in hundredths is about what can just be told apart."
    lms = np.cbrt(np.array([[.4122214708, .5363325363, .0514459929], [.2119034982, .6806995451, .1073969566], [.0883024619, .2817188376, .6299787005]]) @ np.clip(np.array(EYES[eyes]) @ linear(colour), 0, 1))
    return 100*np.array([[.2104542553, .7936177850, -.0040720468], [1.9779984951, -2.4285922050, .4505937099], [.0259040371, .7827717662, -.8086757660]]) @ lms

def colours(theme):
    "The style sheet's variables of a theme, the later ones over the earlier."
    rules = re.findall(r"^\.guided-opd(\[data-theme=\"dark\"\])? \{(.*?)\}", front_css(), flags=re.M | re.S)
    return {k: v for dark, rule in rules if theme == "dark" or not dark for k, v in re.findall(r"--([\w-]+): (#[0-9a-fA-F]{6})\b", rule)}

@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("eyes", EYES)
def test_everybody_can_tell_the_actors_and_the_signs_apart(theme, eyes):
    c = colours(theme)
    apart = lambda a, b: np.linalg.norm(oklab(c[a], eyes) - oklab(c[b], eyes))
    actors = "student", "teacher", "expert", "typed"
    near = {(a, b): round(d, 1) for a, b in [*combinations(actors, 2), ("heat-colour", "cool"), ("good", "bad")] if (d := apart(a, b)) < 8}
    assert not near, near
    assert min(apart(a, "paper") for a in (*actors, "heat-colour", "cool")) > 25
