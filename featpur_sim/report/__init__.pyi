from . import class_figure as class_figure
from . import dynamics_figures as dynamics_figures
from . import reproduce as reproduce
from . import run_figures as run_figures
from . import run_page as run_page
from . import sweep_figures as sweep_figures
from . import sweep_page as sweep_page
from .run_page import write_report as write_report
