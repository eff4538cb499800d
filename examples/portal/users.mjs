/** Who may sign in to the demonstration, and the numbers they have. */
export const users = {
  1: { name: 'Ann Lee', number: '+13125550100' },
  2: { name: 'Ben Ortiz', number: '+13125550101' },
};

/** Somebody who is no user of the portal: messages to her are SMS. */
export const outsider = { name: 'Carla Diaz', number: '+13125550199' };
