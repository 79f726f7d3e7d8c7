"""How the page looks within Gradio's theme: one accent colour, quiet greys, the system's own fonts."""

from __future__ import annotations

import gradio as gr

FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")

ACCENT = gr.themes.Color(
    name="teal", c50="#effaf8", c100="#d5f2ec", c200="#aee4da", c300="#7bcfc1", c400="#46b2a3", c500="#1f9384",
    c600="#0f766b", c700="#0d5f57", c800="#0e4c47", c900="#0f3f3b", c950="#042523",
)  # fmt: skip
GREY = gr.themes.Color(
    name="stone", c50="#fafaf9", c100="#f4f4f3", c200="#e6e6e4", c300="#d2d2cf", c400="#a3a3a0", c500="#73736f",
    c600="#555552", c700="#403f3d", c800="#272726", c900="#1a1a19", c950="#111110",
)  # fmt: skip


def theme() -> gr.themes.Base:
    """The theme. Fonts are names of installed ones, so nothing is fetched from outside."""
    return gr.themes.Base(
        primary_hue=ACCENT,
        secondary_hue=ACCENT,
        neutral_hue=GREY,
        font=FONT,
        font_mono=MONO,
        text_size=gr.themes.sizes.text_md,
        radius_size=gr.themes.sizes.radius_sm,
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        background_fill_primary="white",
        background_fill_primary_dark="*neutral_900",
        block_border_width="0px",
        block_shadow="none",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_padding="0px",
        block_label_background_fill="transparent",
        block_label_border_width="0px",
        block_title_text_weight="600",
        block_title_text_size="*text_sm",
        block_info_text_size="*text_xs",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        form_gap_width="0px",
        input_background_fill="white",
        input_background_fill_dark="*neutral_900",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_700",
        input_border_width="1px",
        input_shadow="none",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        button_primary_text_color="white",
        slider_color="*primary_600",
        slider_color_dark="*primary_400",
        checkbox_background_color_selected="*primary_600",
        checkbox_background_color_selected_dark="*primary_500",
    )
