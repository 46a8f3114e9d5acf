"""Write the generated parts of README.md, tables and code, between their markers: ``make table``."""

import re
from pathlib import Path

from rddm.report import markdown, method_table, model_table

ROOT = Path(__file__).resolve().parents[1]


def parts() -> dict[str, str]:
    """Return the generated parts by the names of their markers."""
    code = (ROOT / "examples" / "twenty_lines.py").read_text(encoding="utf-8")
    return {
        "methods": markdown(method_table()),
        "models": markdown(model_table()),
        "twenty-lines": "```python\n" + code.split('"""', 2)[2].strip() + "\n```",
    }


def filled(text: str) -> str:
    """Return README's text with each part in its place."""
    for name, part in parts().items():
        pattern = rf"(<!-- {name} -->\n)(?:.*?\n)?(<!-- /{name} -->)"
        text = re.sub(pattern, lambda match, part=part: f"{match[1]}{part}\n{match[2]}", text, flags=re.DOTALL)
    return text


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(filled(readme.read_text(encoding="utf-8")), encoding="utf-8")
