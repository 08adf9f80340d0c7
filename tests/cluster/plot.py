"""A run's scaling history as SVG: one lane for each service, its replicas over seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_WIDTH, _LANE, _LEFT, _TOP = 760, 90, 90, 30


def drawn(history: Sequence[tuple[float, Mapping[str, int]]], most: Mapping[str, int]) -> str:
    """Return the picture; `history` is seconds and replicas, `most` the bound of each service."""
    last = max(seconds for seconds, _ in history) or 1.0
    height = _TOP + _LANE * len(most) + 30
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="18">Replicas of each service, as its HorizontalPodAutoscaler set them</text>',
    ]
    across = (_WIDTH - _LEFT - 20) / last
    for lane, (name, bound) in enumerate(most.items()):
        base = _TOP + _LANE * (lane + 1) - 12
        up = (_LANE - 24) / bound
        out.append(f'<line x1="{_LEFT}" x2="{_WIDTH - 20}" y1="{base}" y2="{base}" stroke="#999"/>')
        out.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - 20}" y1="{base - bound * up:.1f}" y2="{base - bound * up:.1f}" '
            f'stroke="#ccc" stroke-dasharray="4"/>'
        )
        out.append(
            f'<text x="8" y="{base - 4}">{name}</text><text x="60" y="{base - bound * up + 4:.1f}">{bound}</text>'
        )
        steps, before = [], 0
        for seconds, counts in history:
            x = _LEFT + seconds * across
            if steps and counts[name] != before:
                steps.append(f"{x:.1f},{base - before * up:.1f}")
            steps.append(f"{x:.1f},{base - counts[name] * up:.1f}")
            before = counts[name]
        out.append(f'<polyline points="{" ".join(steps)}" fill="none" stroke="#1a66cc" stroke-width="2"/>')
    for part in range(5):
        x = _LEFT + last * part / 4 * across
        out.append(f'<text x="{x:.0f}" y="{height - 10}">{last * part / 4:.0f} s</text>')
    return "\n".join([*out, "</svg>", ""])
