//! Draws a curve as a chart, with one panel for each series.

use anyhow::{Result, anyhow};
use plotters::{
    chart::{ChartBuilder, LabelAreaPosition},
    coord::{Shift, combinators::IntoLogRange as _},
    drawing::{DrawingArea, IntoDrawingArea as _},
    element::{Circle, PathElement},
    prelude::SVGBackend,
    series::LineSeries,
    style::{Color as _, RGBColor, WHITE},
};

use super::{
    curve::{Curve, Series},
    spread::number,
};

const SIZE: (u32, u32) = (900, 560);
const LINE: RGBColor = RGBColor(0x1f, 0x6f, 0xb4);

/// Returns an SVG with two panels in a row. Their axes begin at zero, so that a series
/// that looks flat is flat.
///
/// # Errors
///
/// The chart cannot be drawn.
pub fn draw(curve: &Curve) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(|error| anyhow!("{error}"))?;
        let rows = curve.series.len().div_ceil(2).max(1);
        let panels = root.split_evenly((rows, 2));
        for (series, panel) in curve.series.iter().zip(&panels) {
            draw_panel(series, &curve.x, panel)
                .map_err(|error| anyhow!("failed to draw `{}`: {error}", series.what))?;
        }
        root.present().map_err(|error| anyhow!("{error}"))?;
    }
    // The text ends with exactly one line feed, on any platform.
    Ok(format!("{}\n", svg.trim_end()))
}

fn draw_panel(series: &Series, x: &str, panel: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<()> {
    let spreads = series.spreads();
    let (Some((first, _)), Some((last, _))) = (spreads.first(), spreads.last()) else {
        return Ok(());
    };
    let top = spreads.iter().map(|(_, spread)| spread.max).fold(0.0, f64::max);
    // An empty range cannot be drawn.
    let top = if top > 0.0 { top * 1.15 } else { 1.0 };
    let last = if last > first { *last } else { first * 2.0 };
    let mut chart = ChartBuilder::on(panel)
        .margin(8)
        .caption(format!("{}, {}", series.what, series.unit), ("sans-serif", 15))
        .set_label_area_size(LabelAreaPosition::Left, 52)
        .set_label_area_size(LabelAreaPosition::Bottom, 36)
        .build_cartesian_2d((*first..last).log_scale(), 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc(x)
        .x_labels(6)
        .y_labels(5)
        .x_label_formatter(&|x| number(*x))
        .y_label_formatter(&|y| number(*y))
        .light_line_style(WHITE)
        .draw()?;
    let medians = spreads.iter().map(|(x, spread)| (*x, spread.median));
    chart.draw_series(LineSeries::new(medians.clone(), &LINE))?;
    chart.draw_series(medians.map(|point| Circle::new(point, 3, LINE.filled())))?;
    chart.draw_series(spreads.iter().map(|(x, spread)| {
        PathElement::new([(*x, spread.min), (*x, spread.max)], LINE.mix(0.4))
    }))?;
    Ok(())
}
