"""Everything that describes the package is in settings.ini; this file hands it to setuptools."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).parent
config = ConfigParser(delimiters=["="])
config.read(root / "settings.ini", encoding="utf-8")
settings = config["DEFAULT"]
extras = {
    name.removesuffix("_requirements"): settings[name].split()
    for name in settings
    if name.endswith("_requirements")
}

setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=(root / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=settings["author"],
    author_email=settings["author_email"],
    license="Apache-2.0",
    license_files=["LICENSE"],
    url=settings["git_url"],
    keywords=settings["keywords"],
    # The wheel carries the notebooks of the paper's tables and figures as `aggan/paper`.
    packages=[*find_packages(include=["aggan", "aggan.*"]), "aggan.paper"],
    package_dir={"aggan.paper": "nbs/paper"},
    package_data={
        "aggan": [
            "py.typed",
            "runtime/kernels/*/*",
            "weights/*.safetensors",
            "weights/README.md",
            "weights/*/*",
        ],
        "aggan.paper": ["*.ipynb"],
    },
    python_requires=f">={settings['min_python']}",
    install_requires=settings["requirements"].split(),
    extras_require=extras,
    entry_points={"console_scripts": settings["console_scripts"].split()},
    # A path file, so that a folder named `aggan` in the working directory does not hide the
    # package.
    options={"editable_wheel": {"mode": "compat"}},
)
