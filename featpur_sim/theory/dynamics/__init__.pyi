from . import equations as equations
from . import exponents as exponents
from . import nodes as nodes
from . import population as population
from . import rosenbrock as rosenbrock
from . import samples as samples
from . import trajectory as trajectory
from .population import Population as Population
