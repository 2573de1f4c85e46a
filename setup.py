"Package metadata, read from settings.ini with nothing but the standard library: change things there, not here."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
parser = ConfigParser(delimiters=["="], interpolation=None)
parser.read(here / "settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]

# Every key NAME_requirements is an extra of that name. `dev` is a full environment, so it contains those that work everywhere.
extras = {k.removesuffix("_requirements"): v.split() for k, v in cfg.items() if k.endswith("_requirements")}
extras["scienceworld"] = [r for r in extras["envs"] if r.startswith(("gymnasium", "scienceworld"))] + extras["java"]
extras["dev"] = [r for name in ("train", "envs", "viz", "dev") for r in extras[name]]
extras["all"] = [r for name in ("train", "envs", "viz") for r in extras[name]]

# Data that the package reads at run time: everything below these folders.
package = here / cfg["lib_name"]
data = [str(p.relative_to(package)) for folder in ("pocket_models", "assets", "envs") if (package / folder).is_dir()
        for p in sorted((package / folder).rglob("*")) if p.is_file() and "__pycache__" not in p.parts and p.suffix != ".py"]

lowest, beyond = (int(cfg[k].split(".")[1]) for k in ("min_python", "max_python"))
readme = here / "README.md"

setup(
    name=cfg["dist_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else cfg["description"],
    long_description_content_type="text/markdown",
    author=cfg["author"],
    license=cfg["license"],
    license_files=["LICENSE"],
    keywords=cfg["keywords"].split(),
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: GPU",
        "Framework :: Jupyter",
        "Intended Audience :: Education",
        "Intended Audience :: Science/Research",
        "Natural Language :: English",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(lowest, beyond)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    packages=find_packages(include=[cfg["lib_name"], cfg["lib_name"] + ".*"]),
    package_data={cfg["lib_name"]: data},
    include_package_data=False,
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg["requirements"].split(),
    extras_require=extras,
    entry_points={
        "console_scripts": cfg["console_scripts"].split(),
        "nbdev": [f"{cfg['lib_name']}={cfg['lib_name']}._modidx:d"],
    },
    zip_safe=False,
)
