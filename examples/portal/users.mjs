/** Users of the demonstration, and their numbers. */
export const users = {
  1: { name: 'Ann Lee', number: '+13125550100' },
  2: { name: 'Ben Ortiz', number: '+13125550101' },
};

/** Not a user of the portal: messages to her are SMS. */
export const outsider = { name: 'Carla Diaz', number: '+13125550199' };

/** A number that the stand-in of the carrier refuses. */
export const failing = { name: 'Sam Weber', number: '+15005550001' };
