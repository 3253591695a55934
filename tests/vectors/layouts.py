"""Reads the layouts of the protocol from the tables of docs/protocol.md."""
import re


def layouts(text):
    """The layouts in the document's tables: fields by layout, cases by choice, and who signs what."""
    tables, choices, signed, name, header = {}, {}, {}, None, ""
    for line in text.splitlines():
        cells = [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
        titled = re.fullmatch(r"`(\w+)`(?:, a choice)?:", line)
        if titled:
            name, header = titled[1], ""
        elif not line.startswith("|"):
            name, header = (name, "") if not line and not header else (None, "")
        elif not header:
            header = " ".join(cells[:2])
        elif not cells[0].startswith("---"):
            if name and header == "field type":
                tables.setdefault(name, []).append((cells[0], cells[1]))
            elif name and header == "number word":
                cases = choices.setdefault(name, [])
                if int(cells[0]) != len(cases):
                    raise AssertionError(f"{name} {cells[1]}: not its number")
                inline = [tuple(part.split(": ")) for part in cells[2].split(", then ")] if ":" in cells[2] else None
                cases.append((cells[1], inline or cells[2]))
            elif header == "message payload type":
                signed[cells[0].replace("-", "_")] = cells[1], cells[2].split()[0]
    return tables, choices, signed
