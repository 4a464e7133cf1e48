//! Lines and bars, drawn.

use std::fmt;

use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{
    BLACK, Cartesian2d, ChartBuilder, Circle, DrawingArea, IntoDrawingArea, IntoFont, LineSeries, PathElement,
    RGBColor, Rectangle, SVGBackend, Text, WHITE,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontTransform, TextStyle};

use super::Colour;
use super::scale::{Axis, Scale};

const WIDTH: u32 = 760;
const HEIGHT: u32 = 400;
const FONT: &str = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif";
const GREY: RGBColor = RGBColor(0x57, 0x60, 0x6a);
const GRID: RGBColor = RGBColor(0xe4, 0xe8, 0xec);
const FLOOR_LINE: Colour = (0x1f, 0x23, 0x28);
/// The library takes a font for so many times larger than it writes into the picture.
const FONT_SCALE: f64 = 1.24;
/// Pixels of a letter of the legend, on average; the picture does not know its reader's font.
const LETTER: f64 = 7.0;

/// A plot cannot be drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlotError(String);

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Whose it is; lines of one name share an entry of the legend.
    pub name: String,
    /// Its colour.
    pub colour: Colour,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
}

/// Lines over an axis.
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    /// Above the plot.
    pub title: &'a str,
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// The lines.
    pub series: &'a [Series],
    /// Points are so close that none of them is marked.
    pub steps: bool,
}

/// One bar, of parts that stand on each other.
#[derive(Clone, Debug)]
pub struct Bar<'a> {
    /// Below it.
    pub name: String,
    /// From below: the name in the legend, colour, value.
    pub parts: Vec<(&'a str, Colour, f64)>,
    /// The least and the greatest, where several runs were made.
    pub between: Option<(f64, f64)>,
}

/// Bars side by side.
#[derive(Clone, Debug)]
pub struct Bars<'a> {
    /// Above the plot.
    pub title: &'a str,
    /// Upwards, always from 0: a bar is as long as what it says.
    pub y: Axis,
    /// The bars.
    pub bars: &'a [Bar<'a>],
    /// A line that nobody can go below, and what it is.
    pub floor: Option<(&'a str, f64)>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b, X> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Scale>>;

/// Draws lines.
pub fn lines(plot: &Lines<'_>) -> Result<String, PlotError> {
    let mut svg = String::new();
    {
        let area = begin(&mut svg, plot.title)?;
        legend(&area, plot.series.iter().map(|series| (series.name.as_str(), series.colour)))?;
        let points = || plot.series.iter().flat_map(|series| &series.points);
        let x = plot.x.scale(points().map(|point| point.0));
        let y = plot.y.scale(points().map(|point| point.1));
        let mut chart = builder(&area, 44).build_cartesian_2d(x, y.clone())?;
        chart
            .configure_mesh()
            .x_label_style(small())
            .y_label_style(small())
            .axis_style(GREY)
            .bold_line_style(GRID)
            .light_line_style(WHITE.mix(0.0))
            .x_label_formatter(&|value| (plot.x.write)(*value))
            .y_label_formatter(&|value| (plot.y.write)(*value))
            .draw()?;
        names(&area, &axis_name(&plot.y, &y), Some(&plot.x.name))?;
        for series in plot.series {
            let colour = rgb(series.colour);
            let points = || series.points.iter().copied();
            chart.draw_series(LineSeries::new(points(), colour.stroke_width(2)))?;
            if !plot.steps && series.points.len() <= 60 {
                chart.draw_series(points().map(|point| Circle::new(point, 2, colour.filled())))?;
            }
        }
        area.present()?;
    }
    Ok(titled(svg, plot.title))
}

/// Draws bars, with the value above each.
pub fn bars(plot: &Bars<'_>) -> Result<String, PlotError> {
    let mut svg = String::new();
    {
        let area = begin(&mut svg, plot.title)?;
        let named = plot.bars.iter().flat_map(|bar| &bar.parts).filter(|part| !part.0.is_empty());
        // The server's own part has the server's colour: in the legend it is the first bar's.
        let line = plot.floor.map(|(name, floor)| format!("{name}: {}", (plot.y.write)(floor)));
        let line = line.iter().map(|line| (line.as_str(), FLOOR_LINE));
        legend(&area, named.map(|part| (part.0, part.1)).chain(line))?;
        let whole = |bar: &Bar<'_>| bar.parts.iter().map(|part| part.2).sum::<f64>();
        let most = |bar: &Bar<'_>| whole(bar).max(bar.between.map_or(0.0, |(_, most)| most));
        let floor = plot.floor.map(|(_, floor)| floor);
        let y =
            plot.y.clone().from_zero().scale(plot.bars.iter().map(most).chain(floor).collect::<Vec<_>>().into_iter());
        let mut chart = builder(&area, 34).build_cartesian_2d(0.0..plot.bars.len() as f64, y.clone())?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .y_label_style(small())
            .axis_style(GREY)
            .bold_line_style(GRID)
            .light_line_style(WHITE.mix(0.0))
            .y_label_formatter(&|value| (plot.y.write)(*value))
            .draw()?;
        names(&area, &axis_name(&plot.y, &y), None)?;
        for (at, bar) in plot.bars.iter().enumerate() {
            one_bar(&mut chart, &area, at as f64, bar, whole(bar), &plot.y)?;
        }
        if let Some(floor) = floor {
            let ends = [(0.0, floor), (plot.bars.len() as f64, floor)];
            chart.draw_series([PathElement::new(ends, rgb(FLOOR_LINE).stroke_width(1))])?;
        }
        area.present()?;
    }
    Ok(titled(svg, plot.title))
}

fn one_bar(
    chart: &mut Chart<'_, '_, RangedCoordf64>,
    area: &Area<'_>,
    at: f64,
    bar: &Bar<'_>,
    whole: f64,
    y: &Axis,
) -> Result<(), PlotError> {
    let (left, middle, right) = (at + 0.22, at + 0.5, at + 0.78);
    let mut below = 0.0;
    for (_, colour, value) in &bar.parts {
        let corners = [(left, below), (right, below + value)];
        chart.draw_series([Rectangle::new(corners, rgb(*colour).filled())])?;
        below += value;
    }
    let mut top = whole;
    if let Some((least, most)) = bar.between.filter(|(least, most)| least < most) {
        chart.draw_series([PathElement::new([(middle, least), (middle, most)], BLACK.stroke_width(1))])?;
        top = top.max(most);
    }
    let parts: Vec<String> = bar.parts.iter().map(|part| (y.write)(part.2)).collect();
    let above = chart.backend_coord(&(middle, top));
    let style = text(13.0, BLACK).pos(Pos::new(HPos::Center, VPos::Bottom));
    area.draw(&Text::new(parts.join(" + "), (above.0, above.1 - 5), style))?;
    let under = chart.backend_coord(&(middle, 0.0));
    let style = text(13.0, BLACK).pos(Pos::new(HPos::Center, VPos::Top));
    area.draw(&Text::new(bar.name.clone(), (under.0, under.1 + 8), style))?;
    Ok(())
}

fn begin<'a>(svg: &'a mut String, title: &str) -> Result<Area<'a>, PlotError> {
    let area = SVGBackend::with_string(svg, (WIDTH, HEIGHT)).into_drawing_area();
    area.fill(&WHITE)?;
    area.draw(&Text::new(title.to_owned(), (16, 10), text(17.0, BLACK)))?;
    Ok(area)
}

fn builder<'a, 'b>(area: &'a Area<'b>, below: u32) -> ChartBuilder<'a, 'b, SVGBackend<'b>>
where
    'b: 'a,
{
    let mut builder = ChartBuilder::on(area);
    builder.margin_top(84).margin_right(24).margin_left(8).margin_bottom(if below > 40 { 26 } else { 10 });
    builder.x_label_area_size(30).y_label_area_size(72);
    builder
}

/// The axis' name stands above it, where it needs no head turned.
fn names(area: &Area<'_>, above: &str, below: Option<&String>) -> Result<(), PlotError> {
    area.draw(&Text::new(above.to_owned(), (16, 62), text(12.0, GREY)))?;
    if let Some(below) = below {
        let style = text(12.0, GREY).pos(Pos::new(HPos::Right, VPos::Bottom));
        area.draw(&Text::new(below.clone(), (WIDTH as i32 - 24, HEIGHT as i32 - 6), style))?;
    }
    Ok(())
}

fn axis_name(axis: &Axis, scale: &Scale) -> String {
    if scale.logarithmic { format!("{}, logarithmic", axis.name) } else { axis.name.clone() }
}

fn legend<'a>(area: &Area<'_>, entries: impl Iterator<Item = (&'a str, Colour)>) -> Result<(), PlotError> {
    let mut seen: Vec<&str> = Vec::new();
    let mut x = 16;
    for (name, colour) in entries {
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        area.draw(&Rectangle::new([(x, 40), (x + 12, 50)], rgb(colour).filled()))?;
        area.draw(&Text::new(name.to_owned(), (x + 18, 39), text(12.0, BLACK)))?;
        x += 18 + (name.chars().count() as f64 * LETTER) as i32 + 18;
    }
    Ok(())
}

/// What a screen reader says, and what stands beside the pointer.
fn titled(svg: String, title: &str) -> String {
    let title = super::super::html::escaped(title);
    match svg.split_once(">\n") {
        Some((open, rest)) => format!("{open} role=\"img\">\n<title>{title}</title>\n{rest}"),
        None => svg,
    }
}

fn text<'a>(size: f64, colour: RGBColor) -> TextStyle<'a> {
    (FONT, size * FONT_SCALE).into_font().color(&colour)
}

fn small<'a>() -> TextStyle<'a> {
    (FONT, 12.0 * FONT_SCALE).into_font().transform(FontTransform::None).color(&GREY)
}

fn rgb((red, green, blue): Colour) -> RGBColor {
    RGBColor(red, green, blue)
}

impl fmt::Display for PlotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a plot cannot be drawn: {}", self.0)
    }
}

impl std::error::Error for PlotError {}

impl<E: std::error::Error + Send + Sync> From<plotters::drawing::DrawingAreaErrorKind<E>> for PlotError {
    fn from(error: plotters::drawing::DrawingAreaErrorKind<E>) -> Self {
        Self(error.to_string())
    }
}
