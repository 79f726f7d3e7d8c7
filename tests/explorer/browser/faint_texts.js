// Every visible text whose contrast with its background is below what WCAG 2 (AA) asks of small text: 4.5.
() => {
  const channel = (value) => {
    const share = value / 255;
    return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  };
  const light = ([red, green, blue]) => 0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue);
  const parse = (text) => {
    const found = text.match(/[\d.]+/g).map(Number);
    const scale = text.startsWith("color(srgb") ? 255 : 1;
    return [found[0] * scale, found[1] * scale, found[2] * scale, found[3] ?? 1];
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const style = getComputedStyle(at);
      const colour = parse(style.backgroundColor);
      if (colour[3] > 0.95) return colour;
    }
    return [255, 255, 255, 1];
  };
  const passedOver = ":disabled, .sx-disabled, svg, canvas, .js-plotly-plot, option";
  const faint = new Set();
  for (const element of document.querySelectorAll(".sx-root *, .sx-form *, .sx-top-bar *")) {
    const own = [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE);
    const text = own.map((node) => node.textContent.trim()).join("");
    const style = getComputedStyle(element);
    if (!text || !element.offsetParent || element.closest(passedOver) || style.visibility === "hidden") continue;
    const behind = ground(element);
    const [more, less] = [light(parse(style.color)), light(behind)].sort((a, b) => b - a);
    const contrast = (more + 0.05) / (less + 0.05);
    if (contrast < 4.5) faint.add(`${text.slice(0, 40)}: ${contrast.toFixed(2)}, ${style.color} on ${behind.slice(0, 3)}`);
  }
  return [...faint];
}
