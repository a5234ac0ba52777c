// Pages that only show something.

import { setUpMenu } from './menu.js';

setUpMenu();
